//! Numbers and columns of text.

use std::fmt::Write as _;

/// A whole number with a comma between thousands.
pub fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut out = if number <= -0.5 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// With three digits that mean something, as far as there are so many.
pub fn short(number: f64) -> String {
    match number.abs() {
        size if size < 0.9995 => format!("{number:.3}"),
        size if size < 9.995 => format!("{number:.2}"),
        size if size < 99.95 => format!("{number:.1}"),
        _ => grouped(number),
    }
}

/// How many times: two digits behind the point are more than is measured.
pub fn times(ratio: f64) -> String {
    if ratio.abs() < 9.995 { format!("{ratio:.2}") } else { short(ratio) }
}

/// Lines of cells below each other: the first of each at the left, all others at the
/// right.
pub(super) fn align<L: AsRef<[String]>>(lines: impl IntoIterator<Item = L>) -> String {
    let lines: Vec<L> = lines.into_iter().collect();
    let mut widths: Vec<usize> = Vec::new();
    for line in &lines {
        for (column, cell) in line.as_ref().iter().enumerate() {
            widths.resize(widths.len().max(column + 1), 0);
            widths[column] = widths[column].max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (column, (cell, width)) in line.as_ref().iter().zip(&widths).enumerate() {
            let written = match column {
                0 => write!(text, "  {cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
            written.expect("a String takes all");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        let numbers = [0.0, 999.4, 1000.0, 1_234_567.0, -1234.0, -0.1];
        assert_eq!(numbers.map(grouped), ["0", "999", "1,000", "1,234,567", "-1,234", "0"]);
    }

    #[test]
    fn three_digits_are_enough() {
        let numbers = [0.0, 0.0834, 0.9996, 1.536, 9.996, 21.04, 99.96, 1234.5];
        let shown = ["0.000", "0.083", "1.00", "1.54", "10.0", "21.0", "100", "1,234"];
        assert_eq!(numbers.map(short), shown);
        assert_eq!([0.991, 1.536, 9.996, 134.4].map(times), ["0.99", "1.54", "10.0", "134"]);
    }
}
