//! All cases together: how many times the floor each server needs.

use super::svg::{self, Scale, WIDTH, line, words};
use super::{Text, anchor, class, put, table};
use crate::report::{Report, times};
use crate::servers::Kind;
use crate::summary::stalled::Beside;
use crate::summary::{self, Row, Spread, Summary};

/// Of a case: its name, and below it the marks.
const ROW: f64 = 42.0;
const LEFT: f64 = 12.0;
const FOOT: f64 = 42.0;

const HOW: &str = "\
<p><strong>CPU time</strong> is user and system time of the server's process for each message \
that reached its client. The <strong>floor</strong> is a bare loop that sends the finished \
frame to each socket: what the kernel alone costs. Ratios are made within a repetition, in \
which every server runs once; each repetition begins with another one.</p>\n\
<p><strong>Latency</strong> is from publishing to the client's read, of all repetitions \
together. The loop is closed: the next burst is published when all have the last one. Every \
client checks that each message comes once and in order.</p>\n\
<p>Bars and marks are medians of the repetitions, whiskers the least and the greatest. The \
clients share the machine with the server: figures of two machines, or of a busy one, say \
little beside each other.</p>\n";

/// The chart, how to read the page, and the tables.
pub(super) fn section(report: &Report<'_>) -> String {
    let servers = summary::servers(report.cases);
    let mut out =
        "<section id=\"overview\">\n<h2>Overview</h2>\n<div class=\"charts\">\n".to_owned();
    out += &chart(report.cases);
    put(&mut out, format_args!("<div class=\"how\">\n{}{HOW}</div>\n</div>\n", legend(&servers)));
    out += &ratios(report.cases, &servers);
    for beside in &report.stalled {
        out += &stalled(beside);
    }
    out + "</section>\n"
}

fn legend(servers: &[Kind]) -> String {
    let mut out = "<ul class=\"legend\">\n".to_owned();
    for server in servers {
        put(
            &mut out,
            format_args!(
                "<li class=\"{}\"><svg viewBox=\"-17 -8 34 16\" aria-hidden=\"true\">\
                 <line class=\"curve\" x1=\"-16\" x2=\"16\" y1=\"0\" y2=\"0\"/>{}</svg>{}</li>\n",
                class(*server),
                svg::mark(*server, 0.0, 0.0),
                Text(server.name())
            ),
        );
    }
    out + "</ul>\n"
}

fn chart(cases: &[Summary]) -> String {
    let ratios = |case: &Summary| -> Vec<(Kind, Spread)> {
        case.rows.iter().filter_map(|row| Some((row.server, row.to_floor?))).collect()
    };
    let all: Vec<f64> = cases
        .iter()
        .flat_map(&ratios)
        .map(|(_, ratio)| ratio.median)
        .filter(|ratio| *ratio > 0.0)
        .collect();
    if all.is_empty() {
        return String::new();
    }
    let min = all.iter().copied().fold(1.0, f64::min);
    let max = all.iter().copied().fold(1.0, f64::max);
    let scale = Scale::log(min, max, LEFT, WIDTH - LEFT);
    let bottom = ROW * cases.len() as f64;
    let mut inside = String::new();
    for value in scale.ticks() {
        let x = scale.at(value);
        let class = if value.to_bits() == 1_f64.to_bits() { "grid one" } else { "grid" };
        inside += &line(class, (x, 0.0), (x, bottom));
        inside += &words("tick", "middle", (x, bottom + 15.0), svg::tick(value));
    }
    let unit = "times the floor's CPU time, logarithmic";
    inside += &words("unit", "middle", (WIDTH / 2.0, bottom + 34.0), unit);
    for (at, case) in cases.iter().enumerate() {
        let top = ROW * at as f64;
        let name = summary::name(&case.case);
        inside += &words("name case", "start", (LEFT, top + 14.0), &name);
        let middle = top + 28.0;
        inside += &line("lead", (LEFT, middle), (WIDTH - LEFT, middle));
        for (server, ratio) in ratios(case).iter().filter(|(_, ratio)| ratio.median > 0.0) {
            let told = format!("{name}: {} {}", server.name(), times(ratio.median));
            let mark = svg::mark(*server, scale.at(ratio.median), middle);
            inside += &svg::group(*server, &told, &(mark + "\n"));
        }
    }
    let about = "a mark for each server in each case; the numbers are in the table below";
    svg::figure("CPU time, times that of the floor", about, bottom + FOOT, &inside)
}

fn ratios(cases: &[Summary], servers: &[Kind]) -> String {
    let head = servers.iter().map(|server| server.name().to_owned()).collect::<Vec<_>>();
    let lines = cases.iter().enumerate().map(|(at, case)| {
        let name = summary::name(&case.case);
        let name = format!("<a href=\"#{}\">{}</a>", anchor(at), Text(&name));
        let cell = |server: &Kind| match case.row(*server).map(|row: &Row| row.to_floor) {
            Some(Some(ratio)) => times(ratio.median),
            Some(None) => "-".to_owned(),
            None => "left out".to_owned(),
        };
        (name, servers.iter().map(cell).collect())
    });
    table::table(
        "CPU time, times that of the floor, median of the repetitions",
        "case",
        &head,
        lines,
    )
}

fn stalled(beside: &Beside) -> String {
    let caption = format!(
        "{}: the clients that read, times the same case without stalled ones",
        summary::name(&beside.case)
    );
    let head = ["CPU per delivery", "deliveries/s", "p50", "p99"].map(str::to_owned);
    let lines = beside.rows.iter().map(|row| {
        let cells = [row.cpu, row.deliveries, row.p50, row.p99].map(times);
        (Text(row.server.name()).to_string(), cells.to_vec())
    });
    table::table(&caption, "server", &head, lines)
}
