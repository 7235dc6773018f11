//! Files served as they are: the app's public folders, the package's own, and `res.file`.
//!
//! A request path is decoded once and checked segment by segment, then the file is found by its
//! canonical path, which must be inside the root: neither `..` in any spelling nor a symbolic link
//! leads out. Names that begin with a dot are never served, and nothing but a regular file is
//! opened. Conditional and range requests are tower-http's.

use std::io;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use percent_encoding::percent_decode_str;
use tower_http::services::ServeFile;

/// The body of a file response, read from the disk while it is sent.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What of the request decides how a file is sent.
const FILE_REQUEST_HEADERS: [HeaderName; 5] = [
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
];

/// A file that is there and may be served but cannot be read. To be logged; the peer gets 404.
#[derive(Debug, thiserror::Error)]
#[error("the file {} cannot be served: {source}", path.display())]
pub struct StaticFileError {
    path: PathBuf,
    source: io::Error,
}

/// The folders whose files are served, the first that has a file winning.
///
/// Responses carry `Content-Type` (text as UTF-8), `Content-Length`, `ETag`, `Last-Modified`,
/// `Cache-Control: no-cache` (kept by browsers, asked again each time) and
/// `X-Content-Type-Options: nosniff`. A folder is served by its `index.html`, under the path with a
/// trailing slash, to which the one without redirects; folders are never listed.
///
/// Needs a tokio runtime; the file system is asked on its blocking threads.
#[derive(Clone, Debug)]
pub struct StaticFiles {
    roots: Vec<PathBuf>,
}

impl StaticFiles {
    /// Serves from `roots`. They need not exist; one that appears later is used.
    #[must_use]
    pub fn new(roots: Vec<PathBuf>) -> StaticFiles {
        StaticFiles { roots }
    }

    /// The response to a request for `uri_path`, the undecoded path, and its query.
    ///
    /// `None` if no root has such a file, if it may not be served, or for a method other than GET
    /// and HEAD.
    ///
    /// # Errors
    /// If there is such a file and the system refuses to read it.
    pub async fn serve(
        &self,
        method: &Method,
        uri_path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Option<Response<Body>>, StaticFileError> {
        if method != Method::GET && method != Method::HEAD {
            return Ok(None);
        }
        let Some((relative, wants_folder)) = decode(uri_path) else {
            return Ok(None);
        };
        for root in &self.roots {
            let response = match find(root, &relative).await? {
                Found::File(path) if !wants_folder => send(method, &path, headers).await?,
                Found::Index(path) if wants_folder => send(method, &path, headers).await?,
                Found::Index(_) => redirect_to_folder(uri_path, query),
                Found::File(_) | Found::Nothing => None,
            };
            if response.is_some() {
                return Ok(response);
            }
        }
        Ok(None)
    }
}

/// The response that sends the file `path` of the folder `base`, for `res.file`.
///
/// `path` is relative to `base` or an absolute path inside it. `None` if it leads out of `base` (by
/// `..` or a link), has a name that begins with a dot, or is no regular file. Conditional and range
/// headers count for GET and HEAD only; a caller that answers with a status of its own passes no
/// headers.
///
/// # Errors
/// If there is such a file and the system refuses to read it.
pub async fn serve_file(
    method: &Method,
    base: &Path,
    path: &Path,
    headers: &HeaderMap,
) -> Result<Option<Response<Body>>, StaticFileError> {
    let mut relative = PathBuf::new();
    for component in path.strip_prefix(base).unwrap_or(path).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) if !is_hidden(Path::new(name)) => relative.push(name),
            _ => return Ok(None),
        }
    }
    let Found::File(file) = find(base, &relative).await? else {
        return Ok(None);
    };
    if method == Method::GET || method == Method::HEAD {
        send(method, &file, headers).await
    } else {
        send(&Method::GET, &file, &HeaderMap::new()).await
    }
}

/// The file a request path means, relative to a root, and whether it asks for a folder; `None` if
/// the path cannot mean any.
pub(crate) fn decode(uri_path: &str) -> Option<(PathBuf, bool)> {
    let path = uri_path.strip_prefix('/')?;
    let mut relative = PathBuf::new();
    let (path, wants_folder) = match path.strip_suffix('/') {
        Some(folder) => (folder, true),
        None => (path, path.is_empty()),
    };
    // No segment at all is the root; an empty one among others is nobody's name.
    if !path.is_empty() || uri_path.len() > 1 {
        for segment in path.split('/') {
            relative.push(decode_segment(segment)?);
        }
    }
    Some((relative, wants_folder))
}

fn decode_segment(segment: &str) -> Option<String> {
    let mut escapes = segment.split('%');
    escapes.next();
    let well_formed = |escape: &str| {
        escape.len() >= 2 && escape.bytes().take(2).all(|digit| digit.is_ascii_hexdigit())
    };
    if !escapes.all(well_formed) {
        return None;
    }
    let name = percent_decode_str(segment).decode_utf8().ok()?.into_owned();
    // A drive or an alternate stream on Windows.
    let foreign = cfg!(windows) && name.contains(':');
    let refused = name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']);
    (!refused && !foreign).then_some(name)
}

/// Whether any name of a relative path begins with a dot.
fn is_hidden(relative: &Path) -> bool {
    relative.iter().any(|name| name.as_encoded_bytes().starts_with(b"."))
}

enum Found {
    File(PathBuf),
    /// A folder, by its `index.html`.
    Index(PathBuf),
    Nothing,
}

/// Finds `relative` under `root`, on a blocking thread.
async fn find(root: &Path, relative: &Path) -> Result<Found, StaticFileError> {
    let path = root.join(relative);
    let (root, relative) = (root.to_path_buf(), relative.to_path_buf());
    tokio::task::spawn_blocking(move || find_blocking(&root, &relative))
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|source| StaticFileError { path, source })
}

fn find_blocking(root: &Path, relative: &Path) -> io::Result<Found> {
    let Some(root) = canonical(root)? else {
        return Ok(Found::Nothing);
    };
    let Some(path) = canonical_inside(&root, relative)? else {
        return Ok(Found::Nothing);
    };
    // Asked before anything is opened: opening a named pipe waits for its writer.
    let metadata = path.metadata()?;
    if metadata.is_file() {
        return Ok(Found::File(path));
    }
    if metadata.is_dir()
        && let Some(index) = canonical_inside(&root, &relative.join("index.html"))?
        && index.metadata()?.is_file()
    {
        return Ok(Found::Index(index));
    }
    Ok(Found::Nothing)
}

/// The canonical path of `relative`, unless it leads out of the canonical `root` or to a hidden
/// name.
fn canonical_inside(root: &Path, relative: &Path) -> io::Result<Option<PathBuf>> {
    let Some(path) = canonical(&root.join(relative))? else {
        return Ok(None);
    };
    let inside = path.strip_prefix(root).is_ok_and(|inside| !is_hidden(inside));
    Ok(inside.then_some(path))
}

/// The canonical path, `None` if there is nothing by that name.
fn canonical(path: &Path) -> io::Result<Option<PathBuf>> {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};

    match path.canonicalize() {
        Ok(path) => Ok(Some(path)),
        Err(error) => match error.kind() {
            // Invalid input is a NUL in the name.
            NotFound | NotADirectory | InvalidFilename | InvalidInput => Ok(None),
            _ => Err(error),
        },
    }
}

async fn send(
    method: &Method,
    path: &Path,
    headers: &HeaderMap,
) -> Result<Option<Response<Body>>, StaticFileError> {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method.clone();
    for name in FILE_REQUEST_HEADERS {
        // A range that depends on a version which may be gone is answered by the whole file.
        if name == header::RANGE && headers.contains_key(header::IF_RANGE) {
            continue;
        }
        if let Some(value) = headers.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    let mut service = ServeFile::new(path).ignore_multi_range_requests(true);
    match service.try_call(request).await {
        Ok(response) if response.status() == StatusCode::NOT_FOUND => Ok(None),
        Ok(response) => Ok(Some(finish(response.map(|body| body.boxed_unsync())))),
        // Gone since it was found.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StaticFileError { path: path.to_path_buf(), source }),
    }
}

fn finish(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    if let Some(content_type) = headers.get_mut(header::CONTENT_TYPE)
        && let Some(with_charset) = with_charset(content_type)
    {
        *content_type = with_charset;
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The content type with its charset if it is one of text, which is taken to be UTF-8.
fn with_charset(content_type: &HeaderValue) -> Option<HeaderValue> {
    let name = match content_type.to_str().ok()? {
        // RFC 9239: the one name, whatever the extension.
        "application/javascript" => "text/javascript",
        name => name,
    };
    let is_text = name.starts_with("text/")
        || name.ends_with("+xml")
        || name.ends_with("+json")
        || matches!(name, "application/json" | "application/xml");
    let with_charset = format!("{name}; charset=utf-8");
    HeaderValue::from_str(&with_charset).ok().filter(|_| is_text)
}

/// The way to a folder's own path. `decode` has refused empty segments and backslashes, so it
/// cannot lead to another host.
fn redirect_to_folder(uri_path: &str, query: Option<&str>) -> Option<Response<Body>> {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::from_str(&format!("{uri_path}/{query}")).ok()?;
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(response)
}

#[cfg(test)]
#[path = "static_files_tests.rs"]
mod tests;
