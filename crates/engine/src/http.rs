//! HTTP requests of one shard, through hyper: routes, static files, `/health` and upgrades.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::body::{self, BodyError, HeldBody};
use crate::client_ip::client_ip;
use crate::command::{Answer, AnswerBody};
use crate::connection::Connection;
use crate::context::{Context, Stage};
use crate::event::{self, Event, Head, LogLevel};
use crate::framing;
use crate::held;
use crate::hub::Hub;
use crate::opening::Opener;
use crate::path;
use crate::response::{
    Body, JSON, bad_path, closing, empty, error, full, insert, out_of_memory, switching_protocols,
};
use crate::router::{HttpMatch, Params, RouteId};
use crate::routes::Routes;
use crate::slots::{Handle, Slots};
use crate::static_files::{self, StaticFiles};
use crate::upgrade;
use crate::wire::{Traffic, Wire};

/// What the engine knows of the app it serves.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// What `res.file` may reach.
    pub(crate) directory: PathBuf,
    /// What `/health` reports.
    pub(crate) version: String,
    /// When the engine started.
    pub(crate) started: Instant,
}

/// hyper's smallest read buffer, in bytes.
const MIN_HTTP_BUFFER: usize = 8 * 1024;

/// Where the browser helper is served, and its other name, which is the same readable file.
const FROND: &str = "/js/frond.js";
const MINIFIED_FROND: &str = "/js/frond.min.js";

/// The requests of one shard.
pub(crate) struct Http {
    context: Rc<Context<Connection>>,
    opener: Rc<Opener>,
    routes: Arc<Routes>,
    files: StaticFiles,
    served: Served,
    waiting: RefCell<Slots<Waiting>>,
}

/// A request that its handler has not answered.
struct Waiting {
    answer: oneshot::Sender<Answer>,
    since: Instant,
}

/// Takes a request off the list when its client hangs up.
struct Forget<'a> {
    http: &'a Http,
    handle: Handle,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.http.waiting.borrow_mut().remove(self.handle);
        self.http.context.shared.held.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Http {
    pub(crate) fn new(
        shard: usize,
        context: Rc<Context<Connection>>,
        hub: Rc<RefCell<Hub>>,
        routes: Arc<Routes>,
        files: StaticFiles,
        served: Served,
    ) -> Self {
        Self {
            opener: Rc::new(Opener {
                context: Rc::clone(&context),
                hub,
                routes: Arc::clone(&routes),
            }),
            context,
            routes,
            files,
            served,
            waiting: RefCell::new(Slots::new(shard)),
        }
    }

    /// Answers the request `handle`; does nothing if it is no longer waited for.
    pub(crate) fn respond(&self, handle: Handle, answer: Answer) {
        let waiting = self.waiting.borrow_mut().remove(handle);
        if let Some(waiting) = waiting {
            // An error says that the client hung up.
            let _ = waiting.answer.send(answer);
        }
    }

    /// Gives up on handlers that have not answered in time: their clients get 503.
    pub(crate) fn sweep(&self, now: Instant) {
        let timeout = self.context.config().handler_timeout;
        if timeout.is_zero() {
            return;
        }
        let late: Vec<Handle> = self
            .waiting
            .borrow()
            .iter()
            .filter(|(_, waiting)| now.duration_since(waiting.since) >= timeout)
            .map(|(handle, _)| handle)
            .collect();
        for handle in late {
            self.waiting.borrow_mut().remove(handle);
        }
    }

    /// Serves one socket until it is closed or upgraded.
    pub(crate) async fn serve_socket(self: Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let config = self.context.config();
        let asked = Rc::new(Cell::new(false));
        let traffic = Arc::new(Traffic::default());
        let service = {
            let (http, asked, traffic) =
                (Rc::clone(&self), Rc::clone(&asked), Arc::clone(&traffic));
            service_fn(move |request| {
                asked.set(true);
                traffic.begin();
                let (http, traffic) = (Rc::clone(&http), Arc::clone(&traffic));
                async move {
                    traffic.flushed().await;
                    let response = http.serve(request, peer.ip().to_canonical()).await;
                    traffic.end();
                    Ok::<_, Infallible>(response)
                }
            })
        };
        let wire = Wire::new(stream, traffic, config.header_timeout, config.send_timeout);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // It runs from the end of one request to the end of the next one's head, so it is the
            // keep-alive time; the wire bounds the head itself.
            .header_read_timeout(config.keep_alive_timeout)
            .max_headers(config.max_headers)
            .max_header_size(config.max_header_bytes)
            .max_buf_size(config.max_header_bytes.max(MIN_HTTP_BUFFER))
            .serve_connection(TokioIo::new(wire), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut stage = self.context.stage.subscribe();
        if *stage.borrow_and_update() != Stage::Serving {
            return;
        }
        loop {
            tokio::select! {
                biased;
                result = &mut connection => {
                    if let Err(error) = result {
                        self.context.log(LogLevel::Debug, format!("{peer}: {error}"));
                    }
                    break;
                }
                changed = stage.changed() => {
                    let ending = changed.is_err() || *stage.borrow() == Stage::Ending;
                    // hyper would wait for a first request, which browsers may never send on the
                    // sockets they open ahead.
                    if ending || !asked.get() {
                        break;
                    }
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    async fn serve(self: Rc<Self>, mut request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        if let Err(flaw) = framing::check(&request) {
            return closing(error(flaw.status(), flaw.message(), request.headers()));
        }
        let ip = client_ip(peer, request.headers(), &self.context.config().trusted_proxies);
        if upgrade::is_asked(request.headers()) {
            return match self.opener.upgrade(&mut request, ip) {
                Ok(accepted) => switching_protocols(&accepted),
                Err(rejection) => self.opener.reject(rejection),
            };
        }
        let Ok(path) = path::canonical(request.uri().path()) else {
            return bad_path(request.headers());
        };
        let path = path.into_owned();
        let found = self.routes.current().match_http(request.method(), &path);
        match found {
            Err(_) => bad_path(request.headers()),
            Ok(HttpMatch::Found { id, params }) => {
                if self.context.shared.is_over() {
                    return out_of_memory(request.headers());
                }
                self.ask_handler(request, path, id, params, ip).await
            }
            Ok(HttpMatch::MethodNotAllowed { allow }) if request.method() == Method::OPTIONS => {
                let mut response = empty(StatusCode::NO_CONTENT);
                insert(response.headers_mut(), header::ALLOW, &allow);
                response
            }
            Ok(other) => {
                if let Some(response) = self.without_handler(&request, &path).await {
                    return response;
                }
                match other {
                    HttpMatch::MethodNotAllowed { allow } => {
                        let message = format!("{path} takes {allow}");
                        let status = StatusCode::METHOD_NOT_ALLOWED;
                        let mut response = error(status, &message, request.headers());
                        insert(response.headers_mut(), header::ALLOW, &allow);
                        response
                    }
                    _ => {
                        let message = format!("there is nothing at {path}");
                        error(StatusCode::NOT_FOUND, &message, request.headers())
                    }
                }
            }
        }
    }

    /// Static files and `/health`.
    async fn without_handler(
        &self,
        request: &Request<Incoming>,
        path: &str,
    ) -> Option<Response<Body>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        // One file under both names; an app's own file of either name comes first.
        let other_name = (path == MINIFIED_FROND).then_some(FROND);
        for name in [Some(path), other_name].into_iter().flatten() {
            match self.files.serve(request.method(), name, request.headers()).await {
                Ok(Some(response)) => return Some(self.counted_file(response, request.headers())),
                Ok(None) => {}
                Err(failure) => self.context.log(LogLevel::Error, failure.to_string()),
            }
        }
        (path == "/health").then(|| {
            let body = serde_json::json!({
                "status": "ok",
                "version": self.served.version,
                "uptime": self.served.started.elapsed().as_secs(),
                "framework": "tina4-nodejs",
            });
            full(StatusCode::OK, JSON, body.to_string())
        })
    }

    async fn ask_handler(
        &self,
        request: Request<Incoming>,
        path: String,
        route: RouteId,
        params: Params,
        ip: IpAddr,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = match body::read(body, &self.context).await {
            Ok(body) => body,
            Err(BodyError { status, message }) => {
                // The rest of the body is not worth reading.
                return closing(error(status, message, &parts.headers));
            }
        };
        let held = HeldBody::new(&self.context, body.len());
        let (sender, answer) = oneshot::channel();
        let slot = self
            .waiting
            .borrow_mut()
            .insert_with(|_| Waiting { answer: sender, since: Instant::now() });
        let Some(handle) = slot else {
            let message = "too many requests are waiting for their handlers";
            return error(StatusCode::SERVICE_UNAVAILABLE, message, &parts.headers);
        };
        self.context.shared.held.requests.fetch_add(1, Ordering::Relaxed);
        let forget = Forget { http: self, handle };
        self.context.event(Event::Request(Box::new(event::Request {
            handle,
            route,
            method: parts.method.as_str().into(),
            target: parts.uri.path_and_query().map_or("/", |target| target.as_str()).into(),
            path,
            params,
            ip,
            head: Head::new(&parts.headers),
            body,
        })));
        let answer = answer.await;
        drop((forget, held));
        match answer {
            Ok(answer) => self.response(answer, &parts.method, &parts.headers).await,
            Err(_) => {
                let message = "the handler did not answer in time";
                error(StatusCode::SERVICE_UNAVAILABLE, message, &parts.headers)
            }
        }
    }

    fn counted_file(
        &self,
        response: Response<static_files::Body>,
        request_headers: &HeaderMap,
    ) -> Response<Body> {
        let (head, body) = response.into_parts();
        match held::file(&self.context.shared, body) {
            Some(body) => Response::from_parts(head, Either::Right(body)),
            None => out_of_memory(request_headers),
        }
    }

    /// Turns a handler's answer into a response.
    async fn response(
        &self,
        answer: Answer,
        method: &Method,
        request_headers: &HeaderMap,
    ) -> Response<Body> {
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
        let mut response = match answer.body {
            AnswerBody::Bytes(bytes) => match held::bytes(&self.context.shared, bytes) {
                Some(bytes) => Response::new(Either::Left(Full::new(bytes))),
                None => return out_of_memory(request_headers),
            },
            AnswerBody::File(path) => {
                // Only a plain 200 may become 304 or 206.
                let none = HeaderMap::new();
                let conditions = if status == StatusCode::OK { request_headers } else { &none };
                let base = &self.served.directory;
                match static_files::serve_file(method, base, &path, conditions).await {
                    Ok(Some(response)) => self.counted_file(response, request_headers),
                    Ok(None) => {
                        let message = "there is no such file";
                        return error(StatusCode::NOT_FOUND, message, request_headers);
                    }
                    Err(failure) => {
                        self.context.log(LogLevel::Error, failure.to_string());
                        let message = "the file could not be read";
                        return error(StatusCode::INTERNAL_SERVER_ERROR, message, request_headers);
                    }
                }
            }
        };
        if response.status() == StatusCode::OK {
            *response.status_mut() = status;
        }
        let mut own = HeaderMap::new();
        for (name, value) in &answer.headers {
            let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value))
            else {
                let message =
                    format!("the header {name:?} is not one HTTP allows; it was left out");
                self.context.log(LogLevel::Warning, message);
                continue;
            };
            // hyper frames the body and knows its length.
            if name != header::CONTENT_LENGTH && name != header::TRANSFER_ENCODING {
                own.append(name, value);
            }
        }
        // A handler's header replaces the engine's; one it repeats stays repeated.
        response.headers_mut().extend(own);
        response
    }
}
