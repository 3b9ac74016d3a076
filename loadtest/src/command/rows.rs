//! One line of a table of figures, and how it is printed.

use serde::Serialize;

use super::{Output, figures::ratio};

/// See the module.
#[derive(Serialize)]
pub(crate) struct Row {
    figure: &'static str,
    what: String,
    baseline: Option<f64>,
    value: f64,
    /// Value to baseline.
    ratio: Option<f64>,
    target: &'static str,
}

pub(crate) fn row(
    figure: &'static str, what: impl Into<String>, baseline: Option<f64>, value: f64, target: &'static str,
) -> Row {
    let ratio = baseline.map(|baseline| ratio(value, baseline));
    Row { figure, what: what.into(), baseline, value, ratio, target }
}

impl Row {
    /// The line above the first of [`Row::markdown`].
    pub(crate) const HEADING: &'static str =
        "| | figure | value | baseline | ratio | wanted |\n|---|---|---|---|---|---|";

    pub(crate) fn print(&self, output: Output) {
        if output == Output::Json {
            println!("{}", serde_json::to_string(self).expect("plain data always serialises"));
            return;
        }
        let number = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let (figure, what, target) = (self.figure, &self.what, self.target);
        let (baseline, ratio) = (number(self.baseline), number(self.ratio));
        println!("{figure:4} {what:52} {:>12} baseline {baseline:>12} ratio {ratio:>6}  {target}", self.value);
    }

    /// A line of a table in a document.
    pub(crate) fn markdown(&self) -> String {
        let number = |n: Option<f64>| n.map(short).unwrap_or_default();
        let (baseline, ratio) = (number(self.baseline), number(self.ratio));
        format!("| {} | {} | {} | {baseline} | {ratio} | {} |", self.figure, self.what, short(self.value), self.target)
    }
}

/// Three digits, as people write them.
fn short(n: f64) -> String {
    match n.abs() {
        0.0 => "0".to_owned(),
        ..10.0 => format!("{n:.2}"),
        ..100.0 => format!("{n:.1}"),
        _ => format!("{n:.0}"),
    }
}
