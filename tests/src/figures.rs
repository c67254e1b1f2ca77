//! Figures that tests measure, in lines that the runner finds and shows at its end.

/// Says a figure.
pub fn say(test: &str, figure: &str) {
    eprintln!("figures: {test}: {figure}");
}
