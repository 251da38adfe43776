//! WebSocket connections: numbered channels (`*.channel.k8s.io`), and a plain byte tunnel for SPDY.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use fastwebsockets::{FragmentCollectorRead, Frame, OpCode, Payload, Role, WebSocketError, WebSocketWrite};
use tokio::io::{AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use crate::bytes_channel::{ByteReceiver, ByteSender, DEPTH};
use crate::connection::{Connection, Headers, Outgoing, Socket, Stream};

/// The channel of v5 that says which other channel is closed.
const CLOSE_CHANNEL: u8 = 255;
/// Messages larger than this from a peer end the connection.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// How channel messages are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Coding {
    /// Text frames: a digit, then base64.
    pub base64: bool,
    /// v5: closing a channel is a message. Servers understand it and never send it: clients since
    /// kubectl 1.30 warn of a channel that they do not know.
    pub close_message: bool,
}

/// Starts a connection whose channels `0..count` exist from the start.
pub(crate) fn start_channels(socket: impl Socket, role: Role, count: u32, coding: Coding) -> (Connection, Vec<Stream>) {
    let (outgoing, commands) = mpsc::channel(DEPTH);
    let mut channels = HashMap::new();
    let streams = (0..count)
        .map(|channel| {
            let (chunks, receiver) = ByteReceiver::new();
            channels.insert(channel, chunks);
            let sender = ByteSender::new(channel, outgoing.clone());
            Stream {
                headers: Headers::new(),
                receiver,
                sender,
            }
        })
        .collect();
    let (read, write) = tokio::io::split(socket);
    let (mut read, write) = fastwebsockets::after_handshake_split(read, write, role);
    read.set_max_message_size(MAX_MESSAGE_BYTES);
    read.set_auto_close(false);
    let pongs = outgoing.clone();
    let reader = tokio::spawn(async move {
        let mut read = FragmentCollectorRead::new(read);
        while let Ok(frame) = read_message(&mut read, &pongs).await {
            match frame.opcode {
                OpCode::Close => break,
                OpCode::Binary | OpCode::Text if dispatch(&mut channels, &frame.payload, coding).await.is_none() => {
                    tracing::debug!("malformed channel message");
                    break;
                }
                _ => {}
            }
        }
    });
    let written = Coding {
        close_message: coding.close_message && role == Role::Client,
        ..coding
    };
    let writer = tokio::spawn(async move {
        if let Err(error) = write_messages(write, commands, written).await {
            tracing::debug!(%error, "WebSocket cannot be written");
        }
    });
    (
        Connection {
            outgoing,
            reader,
            writer,
        },
        streams,
    )
}

async fn read_message<'f, S: tokio::io::AsyncRead + Unpin>(
    read: &'f mut FragmentCollectorRead<S>,
    pongs: &mpsc::Sender<Outgoing>,
) -> Result<Frame<'f>, WebSocketError> {
    read.read_frame::<_, mpsc::error::SendError<Outgoing>>(&mut |frame: Frame<'_>| {
        let payload = Bytes::copy_from_slice(&frame.payload);
        let pongs = pongs.clone();
        async move { pongs.send(Outgoing::Pong(payload)).await }
    })
    .await
}

async fn dispatch(channels: &mut HashMap<u32, mpsc::Sender<Bytes>>, message: &[u8], coding: Coding) -> Option<()> {
    let (&first, rest) = message.split_first()?;
    let (channel, data) = if coding.base64 {
        (first.checked_sub(b'0')?, Bytes::from(STANDARD.decode(rest).ok()?))
    } else {
        (first, Bytes::copy_from_slice(rest))
    };
    if coding.close_message && channel == CLOSE_CHANNEL {
        channels.remove(&u32::from(*data.first()?));
    } else if let Some(chunks) = channels.get(&u32::from(channel))
        && !data.is_empty()
    {
        let _ = chunks.send(data).await;
    }
    Some(())
}

async fn write_messages<W: AsyncWrite + Unpin>(
    mut write: WebSocketWrite<W>,
    mut commands: mpsc::Receiver<Outgoing>,
    coding: Coding,
) -> Result<(), WebSocketError> {
    while let Some(command) = commands.recv().await {
        let frame = match command {
            Outgoing::Data { stream, data, last } => {
                let Ok(channel) = u8::try_from(stream) else { continue };
                if last && data.is_empty() {
                    if !coding.close_message {
                        continue;
                    }
                    message(CLOSE_CHANNEL, &[channel], coding)
                } else {
                    message(channel, &data, coding)
                }
            }
            Outgoing::Pong(payload) => Frame::pong(Payload::Owned(payload.to_vec())),
            Outgoing::Close => {
                write.write_frame(Frame::close(1000, b"")).await?;
                return write.flush().await;
            }
            Outgoing::Open { .. } | Outgoing::Accept { .. } => continue,
        };
        write.write_frame(frame).await?;
        write.flush().await?;
    }
    Ok(())
}

fn message(channel: u8, data: &[u8], coding: Coding) -> Frame<'static> {
    if coding.base64 {
        let text = format!("{}{}", char::from(b'0' + channel), STANDARD.encode(data));
        return Frame::text(Payload::Owned(text.into_bytes()));
    }
    let mut payload = Vec::with_capacity(data.len() + 1);
    payload.push(channel);
    payload.extend_from_slice(data);
    Frame::binary(Payload::Owned(payload))
}

/// A byte stream carried in binary messages: what the SPDY tunnel of port-forward runs over
/// (client-go `tools/portforward/tunneling_connection.go`).
pub(crate) fn tunnel(socket: impl Socket, role: Role) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let (read, write) = tokio::io::split(socket);
    let (mut read, mut write) = fastwebsockets::after_handshake_split(read, write, role);
    read.set_max_message_size(MAX_MESSAGE_BYTES);
    read.set_auto_close(false);
    let (pong_sender, mut pongs) = mpsc::channel::<Outgoing>(DEPTH);
    tokio::spawn(async move {
        let mut read = FragmentCollectorRead::new(read);
        while let Ok(frame) = read_message(&mut read, &pong_sender).await {
            match frame.opcode {
                OpCode::Close => break,
                OpCode::Binary | OpCode::Text if far_write.write_all(&frame.payload).await.is_err() => break,
                _ => {}
            }
        }
        let _ = far_write.shutdown().await;
    });
    tokio::spawn(async move {
        use tokio::io::AsyncReadExt;
        let mut buffer = BytesMut::with_capacity(32 * 1024);
        loop {
            buffer.reserve(16 * 1024);
            let frame = tokio::select! {
                count = far_read.read_buf(&mut buffer) => match count {
                    Ok(count) if count > 0 => Frame::binary(Payload::Owned(buffer.split().to_vec())),
                    _ => break,
                },
                Some(Outgoing::Pong(payload)) = pongs.recv() => Frame::pong(Payload::Owned(payload.to_vec())),
            };
            if write.write_frame(frame).await.is_err() || write.flush().await.is_err() {
                return;
            }
        }
        let _ = write.write_frame(Frame::close(1000, b"")).await;
        let _ = write.flush().await;
    });
    near
}
