//! A plot of lines as an SVG picture. All coordinates are whole numbers, so that figures have one picture, byte for byte.

use std::fmt::Write;

use crate::size::grouped;

const WIDTH: u64 = 760;
const HEIGHT: u64 = 420;
/// Where the lines are: from the left, from above, and how wide and high.
const AREA: (u64, u64, u64, u64) = (80, 50, 500, 310);
/// Numbers beside the vertical axis.
const TICKS: u64 = 5;
const COLOURS: [&str; 4] = ["#3b82c4", "#5c9f48", "#d64545", "#7a5195"];

/// One line, and what it is called.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) dashed: bool,
    /// Lines of a number have one colour.
    pub(super) colour: usize,
    /// The name of each place on the horizontal axis, which is that of the first line, and the height above it.
    pub(super) points: Vec<(String, f64)>,
}

/// Some lines over the same places.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) lines: Vec<Line>,
}

impl Plot {
    /// The picture.
    pub(super) fn draw(&self) -> String {
        let mut body = String::new();
        text(&mut body, (16, 26), "t", &self.title);
        self.axes(&mut body);
        for (row, line) in self.lines.iter().enumerate() {
            self.line(&mut body, line, row as u64);
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             viewBox=\"0 0 {WIDTH} {HEIGHT}\">\n\
             <style>text{{font-family:sans-serif;font-size:11px;fill:#222}}.t{{font-size:16px;font-weight:bold}}\
             .n{{text-anchor:middle}}.r{{text-anchor:end}}</style>\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        )
    }

    /// The number at the upper end of the vertical axis: two digits that are a multiple of the ticks, and zeroes.
    fn top(&self) -> u64 {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let highest = points.fold(1.0_f64, |most, (_, height)| most.max(*height));
        let unit = 10_u64.pow((highest.log10().floor() as u32).saturating_sub(1)) * TICKS;
        (highest.ceil() as u64).next_multiple_of(unit)
    }

    /// Where the place of a number is.
    fn x(&self, place: usize) -> u64 {
        let places = self.lines.iter().map(|line| line.points.len()).max().unwrap_or(0) as u64;
        let (left, _, width, _) = AREA;
        left + (2 * place as u64 + 1) * width / (2 * places.max(1))
    }

    /// Where a height is.
    fn y(&self, height: f64) -> u64 {
        let (_, above, _, high) = AREA;
        above + high - (height / self.top() as f64 * high as f64).round() as u64
    }

    fn axes(&self, body: &mut String) {
        let (left, _, width, _) = AREA;
        for tick in 0..=TICKS {
            let height = self.top() * tick / TICKS;
            let y = self.y(height as f64);
            rule(body, &[(left, y), (left + width, y)], "#dddddd", "");
            text(body, (left - 8, y + 4), "r", &grouped(height));
        }
        let places = self.lines.first().map_or(&[][..], |line| &line.points);
        for (place, (name, _)) in places.iter().enumerate() {
            text(body, (self.x(place), self.y(0.0) + 18), "n", name);
        }
    }

    /// A line, and its name in a row beside the plot.
    fn line(&self, body: &mut String, line: &Line, row: u64) {
        let colour = COLOURS[line.colour % COLOURS.len()];
        let dashes = if line.dashed { " stroke-dasharray=\"5 3\"" } else { "" };
        let heights = line.points.iter().enumerate();
        let points: Vec<_> =
            heights.map(|(place, (_, height))| (self.x(place), self.y(*height))).collect();
        rule(body, &points, colour, dashes);
        let (left, above, width, _) = AREA;
        let (x, y) = (left + width + 16, above + 10 + 20 * row);
        rule(body, &[(x, y), (x + 24, y)], colour, dashes);
        text(body, (x + 30, y + 4), "l", &line.name);
    }
}

fn rule(body: &mut String, points: &[(u64, u64)], colour: &str, more: &str) {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
    let points = points.join(" ");
    // Writing to a string does not fail.
    let _ = writeln!(
        body,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{more}/>"
    );
}

fn text(body: &mut String, (x, y): (u64, u64), class: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(body, "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: &[(&str, f64)]) -> Plot {
        let points = points.iter().map(|&(name, height)| (name.to_owned(), height)).collect();
        let line = Line { name: "a < b".into(), dashed: false, colour: 1, points };
        Plot { title: "A & B".into(), lines: vec![line] }
    }

    #[test]
    fn heights_are_to_scale_between_zero_and_the_top() {
        let plot = plot(&[("1G", 0.0), ("8G", 500.0), ("1T", 1000.0)]);
        assert_eq!(plot.top(), 1000);
        let (_, above, _, high) = AREA;
        let heights = [0.0, 500.0, 1000.0].map(|height| plot.y(height));
        assert_eq!(heights, [above + high, above + high / 2, above]);
        assert!(plot.x(0) < plot.x(1) && plot.x(1) < plot.x(2));
    }

    #[test]
    fn the_top_is_not_below_any_height_and_names_cannot_break_the_picture() {
        for highest in [0.2, 3.0, 99.0, 101.0, 12_345.0, 46_600_000.0] {
            let plot = plot(&[("1G", highest)]);
            assert!(plot.top() as f64 >= highest, "{highest}: {}", plot.top());
            assert!(plot.top().is_multiple_of(TICKS), "{}", plot.top());
        }
        let picture = plot(&[("1G", 1.0)]).draw();
        assert!(picture.contains("A &amp; B") && picture.contains("a &lt; b"), "{picture}");
    }
}
