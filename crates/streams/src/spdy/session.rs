//! A SPDY session: one task reads and hands out, one writes.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt, ReadHalf};
use tokio::sync::mpsc;

use super::frame::{self, FIN, Frame};
use super::headers::{Decoder, Encoder};
use crate::StreamError;
use crate::bytes_channel::{ByteReceiver, ByteSender, DEPTH};
use crate::connection::{Connection, Headers, Outgoing, Socket, Stream};

/// More streams than any client of these protocols opens at once.
const MAX_STREAMS: usize = 4096;

/// Which end of the connection this is: clients open odd streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// A running session.
pub(crate) struct Session {
    pub connection: Connection,
    /// Streams that the peer opened, already accepted.
    pub incoming: mpsc::Receiver<Stream>,
    opened: mpsc::Sender<(u32, mpsc::Sender<Bytes>)>,
    next_stream: u32,
}

impl Session {
    /// Opens a stream.
    pub(crate) async fn open(&mut self, headers: Headers) -> Result<Stream, StreamError> {
        let stream = self.next_stream;
        self.next_stream += 2;
        let (chunks, receiver) = ByteReceiver::new();
        self.opened
            .send((stream, chunks))
            .await
            .map_err(|_| StreamError::Closed)?;
        let open = Outgoing::Open {
            stream,
            headers: headers.clone(),
        };
        self.connection
            .outgoing
            .send(open)
            .await
            .map_err(|_| StreamError::Closed)?;
        Ok(Stream {
            headers,
            receiver,
            sender: ByteSender::new(stream, self.connection.outgoing.clone()),
        })
    }
}

/// Starts a session over a socket.
pub(crate) fn start(socket: impl Socket, role: Role) -> Session {
    let (read, write) = tokio::io::split(socket);
    let (outgoing, commands) = mpsc::channel(DEPTH);
    let (peer_opened, incoming) = mpsc::channel(DEPTH);
    let (opened, self_opened) = mpsc::channel(DEPTH);
    let reader = Reader {
        read,
        decoder: Decoder::new(),
        outgoing: outgoing.clone(),
        incoming: peer_opened,
        opened: self_opened,
        streams: HashMap::new(),
        role,
    };
    let reader = tokio::spawn(async move {
        if let Err(error) = reader.run().await {
            tracing::debug!(%error, "SPDY session ended");
        }
    });
    let writer = tokio::spawn(async move {
        if let Err(error) = write_frames(write, commands).await {
            tracing::debug!(%error, "SPDY session cannot be written");
        }
    });
    Session {
        connection: Connection {
            outgoing,
            reader,
            writer,
        },
        incoming,
        opened,
        next_stream: if role == Role::Client { 1 } else { 2 },
    }
}

struct Reader<S> {
    read: ReadHalf<S>,
    decoder: Decoder,
    outgoing: mpsc::Sender<Outgoing>,
    incoming: mpsc::Sender<Stream>,
    opened: mpsc::Receiver<(u32, mpsc::Sender<Bytes>)>,
    streams: HashMap<u32, mpsc::Sender<Bytes>>,
    role: Role,
}

impl<S: Socket> Reader<S> {
    async fn run(mut self) -> Result<(), StreamError> {
        while let Some(frame) = frame::read(&mut self.read).await? {
            while let Ok((stream, chunks)) = self.opened.try_recv() {
                self.streams.insert(stream, chunks);
            }
            match frame {
                Frame::Data { stream, flags, body } => self.data(stream, flags, body).await,
                Frame::Control { kind, flags, body } => {
                    if kind == frame::GOAWAY {
                        return Ok(());
                    }
                    self.control(kind, flags, body).await?;
                }
            }
        }
        Ok(())
    }

    /// A stream whose receiver is gone discards: the peer may still be sending.
    async fn data(&mut self, stream: u32, flags: u8, body: Bytes) {
        if let Some(chunks) = self.streams.get(&stream)
            && !body.is_empty()
        {
            let _ = chunks.send(body).await;
        }
        if flags & FIN != 0 {
            self.streams.remove(&stream);
        }
    }

    async fn control(&mut self, kind: u16, flags: u8, body: Bytes) -> Result<(), StreamError> {
        match kind {
            frame::SYN_STREAM => self.syn_stream(flags, &body).await?,
            frame::SYN_REPLY => {
                let (stream, block) = frame::stream_number(&body)?;
                self.decoder.decode(&block)?;
                if flags & FIN != 0 {
                    self.streams.remove(&stream);
                }
            }
            frame::RST_STREAM => {
                let (stream, _) = frame::stream_number(&body)?;
                self.streams.remove(&stream);
            }
            frame::PING => {
                let (number, _) = frame::stream_number(&body)?;
                let from_client = number % 2 == 1;
                if from_client == (self.role == Role::Server) {
                    let _ = self.outgoing.send(Outgoing::Pong(body)).await;
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn syn_stream(&mut self, flags: u8, body: &Bytes) -> Result<(), StreamError> {
        let (stream, rest) = frame::stream_number(body)?;
        if rest.len() < 6 {
            return Err(StreamError::Protocol("SYN_STREAM ends early".into()));
        }
        let headers = self.decoder.decode(&rest[6..])?;
        if self.streams.len() >= MAX_STREAMS || self.streams.contains_key(&stream) {
            return Err(StreamError::Protocol(format!("stream {stream} cannot be opened")));
        }
        let (chunks, receiver) = ByteReceiver::new();
        if flags & FIN == 0 {
            self.streams.insert(stream, chunks);
        }
        let sender = ByteSender::new(stream, self.outgoing.clone());
        let _ = self.outgoing.send(Outgoing::Accept { stream }).await;
        let _ = self
            .incoming
            .send(Stream {
                headers,
                receiver,
                sender,
            })
            .await;
        Ok(())
    }
}

async fn write_frames(
    mut io: impl AsyncWrite + Unpin,
    mut commands: mpsc::Receiver<Outgoing>,
) -> Result<(), StreamError> {
    let mut encoder = Encoder::new();
    let mut out = BytesMut::new();
    while let Some(command) = commands.recv().await {
        let close = matches!(command, Outgoing::Close);
        match command {
            Outgoing::Data { stream, data, last } => frame::data(&mut out, stream, &data, last),
            Outgoing::Open { stream, headers } => {
                let block = encoder.encode(&headers);
                frame::control(
                    &mut out,
                    frame::SYN_STREAM,
                    0,
                    &[&stream.to_be_bytes(), &[0; 6], &block],
                );
            }
            Outgoing::Accept { stream } => {
                let block = encoder.encode(&Headers::new());
                frame::control(&mut out, frame::SYN_REPLY, 0, &[&stream.to_be_bytes(), &block]);
            }
            Outgoing::Pong(body) => frame::control(&mut out, frame::PING, 0, &[&body]),
            Outgoing::Close => frame::control(&mut out, frame::GOAWAY, 0, &[&[0; 8]]),
        }
        io.write_all_buf(&mut out).await?;
        io.flush().await?;
        if close {
            io.shutdown().await?;
            return Ok(());
        }
    }
    Ok(())
}
