//! One kept-open HTTP connection, one request at a time.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::net::SocketAddr;
use tokio::net::TcpStream;

pub struct Wire {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
}

impl Wire {
    /// Must be called within a `LocalSet`, which drives the connection.
    pub async fn connect(to: SocketAddr) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("connecting: {e}");
        let stream = TcpStream::connect(to)
            .await
            .map_err(|e| failed(&e.kind()))?;
        stream.set_nodelay(true).map_err(|e| failed(&e))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|e| failed(&e))?;
        // How it ended is told to the request that it cut off.
        tokio::task::spawn_local(connection);
        Ok(Self {
            sender,
            host: HeaderValue::try_from(to.to_string()).map_err(|e| failed(&e))?,
        })
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and waits for the whole reply.
    pub async fn exchange(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), String> {
        request.headers_mut().insert(HOST, self.host.clone());
        self.sender.ready().await.map_err(|e| broke(&e))?;
        let reply = self
            .sender
            .send_request(request)
            .await
            .map_err(|e| broke(&e))?;
        let status = reply.status();
        let mut body = reply.into_body();
        let mut whole = Bytes::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| broke(&e))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            // Nearly every body comes in one piece: nothing is copied then.
            whole = if whole.is_empty() {
                data
            } else {
                let mut both = BytesMut::from(whole);
                both.extend_from_slice(&data);
                both.freeze()
            };
            if body.is_end_stream() {
                break;
            }
        }
        Ok((status, whole))
    }
}

/// The innermost reason: "connection reset" rather than "error".
fn broke(error: &hyper::Error) -> String {
    let io = error
        .source()
        .and_then(|e| e.downcast_ref::<std::io::Error>());
    match io {
        Some(io) => format!("connection broke: {}", io.kind()),
        None => format!("connection broke: {error}"),
    }
}
