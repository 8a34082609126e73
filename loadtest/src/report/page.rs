//! The frame of every page, and the few elements in it: no page loads anything.

use serde_json::Value;

/// A page that holds `record` as JSON.
pub(crate) fn frame(title: &str, body: &str, record: &Value) -> String {
    let title = escaped(title);
    // No text of a record may end the script.
    let record = record.to_string().replace('<', "\\u003c");
    [
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
        &format!("<title>{title}</title>\n<style>\n"),
        include_str!("page.css"),
        &format!("</style>\n<main>\n<h1>{title}</h1>\n"),
        body,
        "</main>\n<script type=\"application/json\" id=\"records\">",
        &record,
        "</script>\n</html>\n",
    ]
    .concat()
}

/// Paragraphs by class, beside a rule.
pub(crate) fn lines(lines: &[(&str, String)]) -> String {
    let line =
        |(class, inner): &(&str, String)| ["<p class=\"", class, "\">", inner, "</p>\n"].concat();
    let lines: String = lines.iter().map(line).collect();
    format!("<div class=\"run\">\n{lines}</div>\n")
}

/// Nothing around nothing: not every scenario has such figures.
pub(crate) fn grid(class: &str, inner: &str) -> String {
    if inner.is_empty() {
        return String::new();
    }
    format!("<div class=\"{class}\">\n{inner}</div>\n")
}

/// A table that may be wider than the page.
pub(crate) fn wide(rows: &str) -> String {
    format!("<div class=\"wide\"><table>\n{rows}</table></div>\n")
}

/// A row of a table, of `th` or `td`.
pub(crate) fn cells(tag: &str, texts: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = texts.map(|cell| format!("<{tag}>{cell}</{tag}>")).collect();
    format!("<tr>{}</tr>\n", cells.concat())
}

/// `text` without markup.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
