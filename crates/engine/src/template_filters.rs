//! The filters templates have beyond minijinja's own, and those that must know about marked text
//! (see [`crate::template_escape`]).

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};

use crate::template_escape::{json_with_entities, mark, marked, unmarked};

/// Most digits `number_format` prints after the decimal point.
const MAX_DECIMALS: usize = 20;

/// Adds the filters to `env`.
pub(crate) fn register(env: &mut Environment<'_>) {
    env.add_filter("escape", escape);
    env.add_filter("e", escape);
    env.add_filter("raw", minijinja::filters::safe);
    env.add_filter("tojson", to_json);
    env.add_filter("to_json", to_json);
    env.add_filter("json_encode", to_json);
    env.add_filter("urlencode", url_encode);
    env.add_filter("nl2br", nl2br);
    env.add_filter("number_format", number_format);
    env.add_filter("truncate", truncate);
}

/// `|escape`, `|e`: escaped for the place it lands in; a safe value stays as it is.
fn escape(value: &Value) -> Value {
    Value::from_safe_string(marked(value))
}

/// `|tojson(indent)`: JSON that is safe in a script, in HTML text and in a single-quoted attribute.
fn to_json(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let json = minijinja::filters::tojson(value, indent, options)?;
    Ok(Value::from_safe_string(json_with_entities(json.as_str().unwrap_or_default())))
}

/// `|urlencode`: percent-encoding of the characters a marked text stands for.
fn url_encode(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => minijinja::filters::urlencode(&Value::from(unmarked(text))),
        None => minijinja::filters::urlencode(value),
    }
}

/// `|nl2br`: `<br>` before each line end, the rest escaped.
fn nl2br(value: &Value) -> Value {
    let text = marked(value);
    let mut html = String::with_capacity(text.len());
    let is = |c: char, end: char| c == end || Some(c) == mark(end);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if is(c, '\r') || is(c, '\n') {
            if is(c, '\r') {
                characters.next_if(|&next| is(next, '\n'));
            }
            html.push_str("<br>");
            // Marked, so that it does not end a JavaScript string.
            html.extend(mark('\n'));
        } else {
            html.push(c);
        }
    }
    Value::from_safe_string(html)
}

/// `|number_format(decimals = 0, point = ".", separator = ",")`: rounded, thousands separated.
fn number_format(
    value: &Value,
    decimals: Option<usize>,
    point: Option<&str>,
    separator: Option<&str>,
) -> Result<String, Error> {
    let number = match value.as_str() {
        Some(text) => text.trim().parse::<f64>().ok(),
        None => f64::try_from(value.clone()).ok(),
    };
    let number = number.filter(|number| number.is_finite()).ok_or_else(|| {
        let problem = format!("number_format takes a number, not {} {value:?}", value.kind());
        Error::new(ErrorKind::InvalidOperation, problem)
    })?;
    let decimals = decimals.unwrap_or(0).min(MAX_DECIMALS);
    let digits = format!("{:.decimals$}", number.abs());
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let mut text = String::with_capacity(digits.len() * 2);
    // A number that rounds to nothing has no sign.
    if number < 0.0 && digits.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) {
        text.push('-');
    }
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push_str(separator.unwrap_or(","));
        }
        text.push(digit);
    }
    if !fraction.is_empty() {
        text.push_str(point.unwrap_or("."));
        text.push_str(fraction);
    }
    Ok(text)
}

/// `|truncate(length = 255, end = "...")`: the first `length` characters and `end`, or the whole
/// text if it is no longer.
///
/// Markup that is cut is no longer safe: it prints escaped.
fn truncate(value: &Value, length: Option<usize>, end: Option<&str>) -> Value {
    if value.is_undefined() || value.is_none() {
        return Value::from("");
    }
    let length = length.unwrap_or(255);
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(length) {
        None => value.clone(),
        Some((cut, _)) => Value::from(text[..cut].trim_end().to_owned() + end.unwrap_or("...")),
    }
}
