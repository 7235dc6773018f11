//! Canonical paths and the router beside plain ones.

use http::Method as HttpMethod;

use crate::path::{PathError, canonical, decode_segment, split_target};
use crate::router::{HttpMatch, Method, ParamValue, Params, Pattern, Router, WebSocketRoute};
use crate::static_files;

/// The first line is a request's target, each other one the path of a route.
pub fn paths(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let (path, query) = split_target(lines.next().unwrap_or_default());
    assert!(!path.contains('?') && (query.is_empty() || path.len() < text.len()));
    file_stays_inside(path);
    let Some(canonical) = check_canonical(path) else { return };
    let patterns: Vec<Pattern> = lines.take(40).filter_map(|line| line.parse().ok()).collect();
    let mut router = Router::default();
    for (id, pattern) in patterns.iter().enumerate() {
        assert_eq!(pattern.to_string().parse().as_ref(), Ok(pattern));
        let id = id as u32;
        let route = WebSocketRoute { id, ..WebSocketRoute::default() };
        router.insert_websocket(pattern.clone(), route);
        router.insert_http(Method::Only(HttpMethod::GET), pattern.clone(), id);
    }
    let expected = best(&patterns, &canonical);
    let found = router.match_websocket(&canonical).map(|found| found.map(|(r, p)| (r.id, p)));
    assert_eq!(found, expected, "{canonical} among {patterns:?}");
    let found = router.match_http(&HttpMethod::HEAD, &canonical).map(|found| match found {
        HttpMatch::Found { id, params } => Some((id, params)),
        other => {
            assert_eq!(other, HttpMatch::NotFound);
            None
        }
    });
    assert_eq!(found, expected, "by HTTP");
}

/// Its canonical form, if it is a path: what RFC 3986 section 6.2.2 makes of it, byte by byte.
fn check_canonical(path: &str) -> Option<String> {
    let mut expected = String::new();
    let mut bytes = path.bytes();
    let mut is_good = path.starts_with('/');
    while let Some(byte) = bytes.next() {
        let mut escaped = false;
        let mut value = byte;
        if byte == b'%' {
            escaped = true;
            let digits = [bytes.next(), bytes.next()];
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            match (digit(digits[0]), digit(digits[1])) {
                (Some(high), Some(low)) => value = (high * 16 + low) as u8,
                _ => {
                    is_good = false;
                    break;
                }
            }
        }
        let character = char::from(value);
        let may_stand = match escaped {
            true => "-._~".contains(character),
            false => "-._~/:@!$&'()*+,;=".contains(character),
        };
        if value.is_ascii_alphanumeric() || (value.is_ascii() && may_stand) {
            expected.push(character);
        } else {
            expected.push_str(&format!("%{value:02X}"));
        }
    }
    let found = canonical(path);
    assert_eq!(found.is_ok(), is_good, "{path:?}");
    let found = found.ok()?;
    assert_eq!(found, expected, "{path:?}");
    assert_eq!(canonical(&found).as_deref(), Ok(&*found), "twice is as once");
    assert_eq!(found.split('/').count(), path.split('/').count(), "no segment is split");
    for (raw, canonical) in path.split('/').zip(found.split('/')) {
        let (raw, canonical) = (decode_segment(raw), decode_segment(canonical));
        assert_eq!(raw.is_ok(), canonical.is_ok());
        assert!(raw.is_err() || raw == canonical, "it means the same");
    }
    Some(found.into_owned())
}

/// A file's path never leads up, and to nothing hidden.
fn file_stays_inside(path: &str) {
    use std::path::Component;

    let Some((relative, _)) = static_files::decode(path) else { return };
    for component in relative.components() {
        let Component::Normal(name) = component else { panic!("{path:?} leads to {relative:?}") };
        let name = name.to_str().expect("UTF-8");
        assert!(!name.starts_with('.') && !name.contains(['/', '\\', '\0']), "{name:?}");
    }
}

/// How well a segment fits: the smaller, the better. The parameter, if it is one, still encoded.
type Fit<'a> = (u8, Option<&'a str>);

/// The route that the rules choose: of those that match, the one whose first segment is the most
/// specific, then whose second is, and so on. Of the same shape, the last one.
fn best(patterns: &[Pattern], path: &str) -> Result<Option<(u32, Params)>, PathError> {
    let mut best: Option<(Vec<u8>, u32, &Pattern, Vec<Fit<'_>>)> = None;
    for (id, pattern) in patterns.iter().enumerate() {
        let Some(fits) = fit(pattern, path) else { continue };
        let order: Vec<u8> = fits.iter().map(|(order, _)| *order).collect();
        if best.as_ref().is_none_or(|(other, ..)| order <= *other) {
            best = Some((order, id as u32, pattern, fits));
        }
    }
    let Some((_, id, pattern, fits)) = best else { return Ok(None) };
    let names = pattern.as_str().split('/').filter_map(|part| {
        let inner = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(inner.split(':').next().unwrap_or_default())
    });
    let values = fits.into_iter().filter_map(|(order, raw)| raw.map(|raw| (order, raw)));
    let params: Result<Params, PathError> = names
        .zip(values)
        .map(|(name, (order, raw))| {
            let value = match order {
                1 | 2 => ParamValue::Number(raw.parse::<f64>().expect("a number") + 0.0),
                _ => ParamValue::Text(decode_segment(raw)?),
            };
            Ok((name.into(), value))
        })
        .collect();
    params.map(|params| Some((id, params)))
}

fn fit<'a>(pattern: &Pattern, path: &'a str) -> Option<Vec<Fit<'a>>> {
    let mut left = Some(path.strip_prefix('/')?);
    let mut fits = Vec::new();
    for part in pattern.as_str().strip_prefix('/')?.split('/') {
        let whole = left?;
        let (segment, tail) = match whole.split_once('/') {
            Some((segment, tail)) => (segment, Some(tail)),
            None => (whole, None),
        };
        left = tail;
        let kind = part.strip_prefix('{').map(|part| part.trim_end_matches('}').split(':').nth(1));
        fits.push(match kind {
            None => {
                let literal = canonical(&format!("/{part}")).ok()?.into_owned();
                (literal[1..] == *segment).then_some((0, None))
            }
            Some(Some("int")) => is_int(segment).then_some((1, Some(segment))),
            Some(Some("float")) => is_float(segment).then_some((2, Some(segment))),
            Some(None) => (!segment.is_empty()).then_some((3, Some(segment))),
            Some(_) => {
                left = None;
                (!whole.is_empty()).then_some((4, Some(whole)))
            }
        }?);
    }
    left.is_none().then_some(fits)
}

/// `-?[0-9]+`, at most 2^53 − 1 from zero.
fn is_int(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let significant = digits.trim_start_matches('0');
    is_digits
        && significant.len() <= 16
        && significant.bytes().fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0')) < 1 << 53
}

/// `-?[0-9]+(\.[0-9]+)?`, finite.
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    digits(whole) && digits(fraction) && text.parse().is_ok_and(f64::is_finite)
}
