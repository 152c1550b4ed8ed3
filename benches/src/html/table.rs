//! The numbers behind the charts.

use super::{Text, class, put};
use crate::report::{grouped, short, times};
use crate::summary::{Row, Spread, Summary};

const HEAD: [&str; 12] = [
    "CPU µs/delivery",
    "× floor",
    "× fanout",
    "deliveries/s",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "max ms",
    "idle B/conn",
    "peak MB",
    "clients' CPU µs/delivery",
    "clients' cores",
];

/// All figures of a case.
pub(super) fn of_case(case: &Summary) -> String {
    let lines = case.rows.iter().map(|row| {
        let name = Text(row.server.name()).to_string();
        let swatch = format!("<span class=\"{}\">{name}</span>", class(row.server));
        (swatch, cells(row))
    });
    let caption = "Medians of the repetitions (least to greatest); latency of all together";
    let mut out = table(caption, "server", &HEAD.map(str::to_owned), lines);
    if case.rows.iter().any(|row| row.load_bound) {
        out += "<p class=\"how\">* The clients, one thread, had no time to spare: deliveries and \
                latency are what they could take, not what the server could send. The server's \
                CPU time stands.</p>\n";
    }
    out
}

fn cells(row: &Row) -> Vec<String> {
    let maybe = |spread: Option<Spread>, show: fn(f64) -> String| {
        spread.map_or_else(|| "-".to_owned(), |spread| range(&spread, show))
    };
    let ms = |us: f64| short(us / 1e3);
    let bound = if row.load_bound { "*" } else { "" };
    vec![
        range(&row.cpu_us, short),
        maybe(row.to_floor, times),
        maybe(row.to_fanout, times),
        range(&row.deliveries_per_s, grouped) + bound,
        ms(row.latency.p50_us),
        ms(row.latency.p99_us),
        ms(row.latency.p999_us),
        row.latency.curve.last().map_or_else(|| "-".to_owned(), |slowest| ms(slowest.us)),
        maybe(row.idle_bytes, grouped),
        maybe(row.peak_bytes, |bytes| short(bytes / 1e6)),
        range(&row.load_cpu_us, short),
        range(&row.load_cores, short) + bound,
    ]
}

fn range(spread: &Spread, show: fn(f64) -> String) -> String {
    let (min, max) = (show(spread.min), show(spread.max));
    format!("{} <small>({min} to {max})</small>", show(spread.median))
}

/// A table; first cells and all others are HTML already, the rest is not.
pub(super) fn table(
    caption: &str,
    corner: &str,
    head: &[String],
    lines: impl Iterator<Item = (String, Vec<String>)>,
) -> String {
    let mut out = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">\n<table>\n\
         <caption><span>{}</span></caption>\n<thead><tr><th scope=\"col\">{}</th>",
        Text(caption),
        Text(caption),
        Text(corner)
    );
    for name in head {
        put(&mut out, format_args!("<th scope=\"col\">{}</th>", Text(name)));
    }
    out += "</tr></thead>\n<tbody>\n";
    for (name, cells) in lines {
        put(&mut out, format_args!("<tr><th scope=\"row\">{name}</th>"));
        for cell in cells {
            put(&mut out, format_args!("<td>{cell}</td>"));
        }
        out += "</tr>\n";
    }
    out + "</tbody>\n</table>\n</div>\n"
}
