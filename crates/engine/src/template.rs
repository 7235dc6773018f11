//! Templates: `src/templates/<name>` of the app, or the package's own when the app has none.
//!
//! The language is minijinja's (Jinja), printing as Frond does: undefined and none print nothing,
//! booleans are `true` and `false`. Every printed value is escaped for the place it lands in,
//! whatever the file is called: entities in HTML, `\uXXXX` in a `<script>` element. `|safe` and
//! `|tojson` pass. `template_escape` says how.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, escape_formatter};

use crate::template_escape::{self, PageWriter};
use crate::template_filters;

/// Largest template file. 4 MiB.
const MAX_TEMPLATE_SIZE: u64 = 4 * 1024 * 1024;

/// Largest page a template may produce. 32 MiB.
const MAX_PAGE_SIZE: usize = 32 * 1024 * 1024;

/// What one render may do, in minijinja's fuel: about one an instruction and one per 64 bytes
/// handled. Ends a loop that would not end by itself in well under a second.
const RENDER_FUEL: u64 = 10_000_000;

/// Nesting of a render: an include counts 10, a macro call 4, a loop 1. Deep enough for any page,
/// and shallow enough for the stack of a worker thread.
const MAX_RECURSION: usize = 200;

/// A template that could not be rendered: one sentence that names the file and, where there is one,
/// the line.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    message: String,
    template: String,
    line: Option<usize>,
}

impl TemplateError {
    /// The name of the template with the mistake, which may be one that was included or extended.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The line of the mistake, from 1.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

/// The templates of one app.
///
/// In production a template is compiled once and kept; in development every render reads the files
/// anew, the included and extended ones too.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    roots: [PathBuf; 2],
    development: bool,
    max_page_size: usize,
}

impl Templates {
    /// Templates from `app_dir`, and from `fallback_dir` what `app_dir` does not have.
    ///
    /// Neither folder needs to exist; one that appears later is used.
    #[must_use]
    pub fn new(app_dir: &Path, fallback_dir: &Path, development: bool) -> Templates {
        let roots = [app_dir.to_path_buf(), fallback_dir.to_path_buf()];
        let mut environment = Environment::new();
        environment.set_loader({
            let roots = roots.clone();
            move |name| load(&roots, name)
        });
        environment.set_auto_reload(false);
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_formatter(|out, state, value| match state.auto_escape() {
            AutoEscape::Json => escape_formatter(out, state, value),
            // `{% autoescape false %}` is the author's word that what is printed is safe.
            AutoEscape::None if value.as_str().is_some() => escape_formatter(out, state, value),
            _ => template_escape::write_value(out, value).map_err(minijinja::Error::from),
        });
        environment.set_fuel(Some(RENDER_FUEL));
        environment.set_recursion_limit(MAX_RECURSION);
        // Errors carry the line; the dump of source and variables that debug mode adds would copy
        // the whole source at every undefined value.
        environment.set_debug(false);
        template_filters::register(&mut environment);
        Templates { environment, roots, development, max_page_size: MAX_PAGE_SIZE }
    }

    /// Renders the template `name`, a path relative to the templates folder with `/` between its
    /// segments, with the entries of `data` as variables.
    ///
    /// # Errors
    /// If the template is missing, cannot be read, has a mistake, fails while running, needs more
    /// than the work allowed for one page, or its page would be larger than 32 MiB.
    pub fn render(&self, name: &str, mut data: serde_json::Value) -> Result<String, TemplateError> {
        template_escape::clean(&mut data);
        let data = minijinja::Value::from(Serde(data));
        let mut writer = PageWriter::new(self.max_page_size);
        let result = if self.development {
            // The original never renders, so a clone begins with nothing compiled.
            render_with(&self.environment.clone(), name, data, &mut writer)
        } else {
            render_with(&self.environment, name, data, &mut writer)
        };
        match result {
            Ok(()) => Ok(writer.into_page()),
            Err(error) => Err(self.explain(name, &error, writer.overflowed)),
        }
    }

    /// Says what went wrong where the mistake is, not where it surfaced.
    fn explain(&self, name: &str, error: &minijinja::Error, overflowed: bool) -> TemplateError {
        let innermost = innermost(error);
        let template = innermost.name().unwrap_or(name).to_owned();
        let line = innermost.line();
        let problem = if overflowed {
            format!("the page is larger than {} MiB", self.max_page_size / 1024 / 1024)
        } else {
            match innermost.kind() {
                ErrorKind::TemplateNotFound => self.explain_missing(innermost),
                ErrorKind::OutOfFuel => {
                    "the page takes too much work; is there a loop that does not end?".to_owned()
                }
                _ => explain_mistake(innermost),
            }
        };
        let place = match line {
            Some(line) => format!("template {template:?} line {line}"),
            None => format!("template {template:?}"),
        };
        TemplateError { message: format!("{place}: {problem}"), template, line }
    }

    fn explain_missing(&self, error: &minijinja::Error) -> String {
        let [app, fallback] = &self.roots;
        let what = match error.name() {
            None => "not found",
            Some(_) => error.detail().unwrap_or("a template it needs was not found"),
        };
        format!("{what} (looked in {} and {})", app.display(), fallback.display())
    }
}

fn render_with(
    environment: &Environment<'_>,
    name: &str,
    data: minijinja::Value,
    writer: &mut PageWriter,
) -> Result<(), minijinja::Error> {
    environment.get_template(name)?.render_captured_to(data, writer).map(|_| ())
}

/// The error at the bottom of the wrappers that includes and blocks put around it.
fn innermost(error: &minijinja::Error) -> &minijinja::Error {
    let mut innermost = error;
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<minijinja::Error>()
            && error.name().is_some()
        {
            innermost = error;
        }
        source = error.source();
    }
    innermost
}

fn explain_mistake(error: &minijinja::Error) -> String {
    let kind = error.kind();
    let Some(detail) = error.detail() else {
        return kind.to_string();
    };
    let quoted = |what: &str| {
        let name = detail.strip_prefix(what)?.strip_suffix(" is unknown")?;
        Some(format!("{kind} {name:?}"))
    };
    match kind {
        ErrorKind::UnknownFilter => quoted("filter "),
        ErrorKind::UnknownTest => quoted("test "),
        ErrorKind::UnknownFunction => quoted(""),
        // Said by the loader in words of its own, or clear without the kind.
        ErrorKind::InvalidOperation => Some(detail.to_owned()),
        _ => None,
    }
    .unwrap_or_else(|| format!("{kind}: {detail}"))
}

/// Reads the template `name` from the first root that has it.
fn load(roots: &[PathBuf], name: &str) -> Result<Option<String>, minijinja::Error> {
    let refuse = |problem: String| minijinja::Error::new(ErrorKind::InvalidOperation, problem);
    if let Some(problem) = problem_with_name(name) {
        return Err(refuse(format!("the template name {name:?} is not accepted: {problem}")));
    }
    for root in roots {
        let file = find(root, name).and_then(|path| path.map(|path| read(&path)).transpose());
        match file {
            Ok(Some(source)) => return Ok(Some(source)),
            Ok(None) => {}
            Err(error) => {
                let path = root.join(name);
                return Err(refuse(format!("{} cannot be read: {error}", path.display())));
            }
        }
    }
    Ok(None)
}

/// Why a template name is refused, if it is.
fn problem_with_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.contains('\0') {
        Some("it contains a NUL character")
    } else if name.contains('\\') {
        Some("it contains a backslash; folders are separated by \"/\"")
    } else if name.starts_with('/') || name.contains(':') {
        Some("it must be relative to the templates folder")
    } else if name.split('/').any(str::is_empty) {
        Some("it contains an empty segment")
    } else if name.split('/').any(|segment| segment.starts_with('.')) {
        Some("no segment may begin with a dot")
    } else {
        None
    }
}

/// The file of the template `name` under `root`, if there is one.
fn find(root: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    let canonical = |path: &Path| match path.canonicalize() {
        Ok(path) => Ok(Some(path)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    };
    let Some(root) = canonical(root)? else {
        return Ok(None);
    };
    let Some(path) = canonical(&root.join(name))? else {
        return Ok(None);
    };
    if !path.starts_with(&root) {
        return Err(io::Error::other("it is a link that leads out of the templates folder"));
    }
    // Also keeps a named pipe from being opened, which would wait for a writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    Ok(Some(path))
}

fn read(path: &Path) -> io::Result<String> {
    let mut source = Vec::new();
    File::open(path)?.take(MAX_TEMPLATE_SIZE + 1).read_to_end(&mut source)?;
    if source.len() as u64 > MAX_TEMPLATE_SIZE {
        let limit = MAX_TEMPLATE_SIZE / 1024 / 1024;
        return Err(io::Error::other(format!("it is larger than {limit} MiB")));
    }
    let source = String::from_utf8(source).map_err(|_| io::Error::other("it is not UTF-8 text"))?;
    if let Some(c) = source.chars().find(|&c| template_escape::is_reserved(c)) {
        let code = c as u32;
        return Err(io::Error::other(format!("it contains the noncharacter U+{code:04X}")));
    }
    Ok(source.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(source))
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
