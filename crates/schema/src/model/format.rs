//! The arena as a compact file: varints over one text, deflated.

use std::io::{Read, Write};

use serde_json::Value;

use super::{
    EnumId, FieldDef, FieldFlags, ListKind, MapKind, RootDef, Schema, StructDef, StructId, Text, TypeDef, TypeId, Width,
};

const MAGIC: &[u8] = b"skiffsc1";
/// No data file of ours is near this; a larger one is damaged.
const INFLATED_LIMIT: u64 = 64 << 20;

/// Why a data file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It does not inflate.
    #[error("cannot inflate the schema data")]
    Inflate(#[source] std::io::Error),
    /// It ends early or holds an impossible value.
    #[error("the schema data is damaged at byte {0}")]
    Damaged(usize),
}

/// Deflates `bytes`.
pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes)
        .and_then(|()| out.finish())
        .expect("writing to memory cannot fail")
}

/// Inflates what [`deflate`] made.
pub(crate) fn inflate(bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::new();
    flate2::read::DeflateDecoder::new(bytes)
        .take(INFLATED_LIMIT)
        .read_to_end(&mut out)
        .map_err(FormatError::Inflate)?;
    Ok(out)
}

/// Appends varints and strings.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn int(&mut self, mut n: u32) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    pub(crate) fn string(&mut self, s: &str) {
        self.int(s.len() as u32);
        self.0.extend_from_slice(s.as_bytes());
    }

    fn text(&mut self, text: Text) {
        self.int(text.at);
        self.int(text.len);
    }
}

/// Reads what [`Writer`] wrote.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn damaged<T>(&self) -> Result<T, FormatError> {
        Err(FormatError::Damaged(self.at))
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        match self.bytes[self.at..].get(..len) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => self.damaged(),
        }
    }

    pub(crate) fn int(&mut self) -> Result<u32, FormatError> {
        let (mut n, mut shift) = (0u32, 0);
        loop {
            let byte = self.take(1)?[0];
            n |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
            shift += 7;
            if shift > 28 {
                return self.damaged();
            }
        }
    }

    pub(crate) fn count(&mut self) -> Result<usize, FormatError> {
        let n = self.int()? as usize;
        if n > self.bytes.len() { self.damaged() } else { Ok(n) }
    }

    pub(crate) fn string(&mut self) -> Result<&'a str, FormatError> {
        let len = self.count()?;
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).or_else(|_| self.damaged())
    }

    fn text(&mut self, all: &str) -> Result<Text, FormatError> {
        let text = Text {
            at: self.int()?,
            len: self.int()?,
        };
        match all.get(text.at as usize..(text.at as usize + text.len as usize)) {
            Some(_) => Ok(text),
            None => self.damaged(),
        }
    }
}

impl Schema {
    /// The arena as a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer(MAGIC.to_vec());
        w.string(&self.text);
        w.int(self.enums.len() as u32);
        for values in &self.enums {
            w.int(values.len() as u32);
            values.iter().for_each(|v| w.text(*v));
        }
        w.int(self.defaults.len() as u32);
        self.defaults.iter().for_each(|value| w.string(&value.to_string()));
        w.int(self.types.len() as u32);
        for (def, go) in self.types.iter().zip(&self.go_names) {
            write_type(&mut w, def);
            w.text(*go);
        }
        w.int(self.structs.len() as u32);
        for def in &self.structs {
            w.text(def.name);
            w.int(map_kind_code(def.kind));
            w.int(u32::from(def.preserves_unknown));
            w.int(def.own.start);
            w.int(def.own.end);
        }
        w.int(self.fields.len() as u32);
        for field in &self.fields {
            w.text(field.name);
            w.int(field.number);
            w.int(field.ty.0);
            w.int(u32::from(field.flags.0));
            w.int(field.default);
            w.text(field.merge_key);
        }
        w.int(self.roots.len() as u32);
        for root in &self.roots {
            w.text(root.group);
            w.text(root.version);
            w.text(root.kind);
            w.int(root.ty.0);
        }
        deflate(&w.0)
    }

    /// Reads what [`Schema::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes do not inflate, end early, or refer to what is not there.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let bytes = inflate(bytes)?;
        let mut r = Reader::new(&bytes);
        if r.take(MAGIC.len())? != MAGIC {
            return r.damaged();
        }
        let mut schema = Self {
            text: r.string()?.into(),
            ..Self::default()
        };
        schema.read_values(&mut r)?;
        schema.read_types(&mut r)?;
        schema.read_fields(&mut r)?;
        schema.check(&r)?;
        schema.index();
        Ok(schema)
    }

    fn read_values(&mut self, r: &mut Reader<'_>) -> Result<(), FormatError> {
        for _ in 0..r.count()? {
            let len = r.count()?;
            let values = (0..len).map(|_| r.text(&self.text)).collect::<Result<_, _>>()?;
            self.enums.push(values);
        }
        for _ in 0..r.count()? {
            let value: Result<Value, _> = serde_json::from_str(r.string()?);
            self.defaults.push(value.or_else(|_| r.damaged())?);
        }
        Ok(())
    }

    fn read_types(&mut self, r: &mut Reader<'_>) -> Result<(), FormatError> {
        let count = r.count()?;
        self.types.reserve_exact(count);
        self.go_names.reserve_exact(count);
        for _ in 0..count {
            self.types.push(read_type(r)?);
            self.go_names.push(r.text(&self.text)?);
        }
        let count = r.count()?;
        self.structs.reserve_exact(count);
        for _ in 0..count {
            let name = r.text(&self.text)?;
            let kind = read_map_kind(r)?;
            let preserves_unknown = r.int()? != 0;
            let own = r.int()?..r.int()?;
            self.structs.push(StructDef {
                name,
                own,
                flat: 0..0,
                kind,
                preserves_unknown,
                has_defaults: false,
            });
        }
        Ok(())
    }

    fn read_fields(&mut self, r: &mut Reader<'_>) -> Result<(), FormatError> {
        let count = r.count()?;
        self.fields.reserve_exact(count);
        for _ in 0..count {
            self.fields.push(FieldDef {
                name: r.text(&self.text)?,
                number: r.int()?,
                ty: TypeId(r.int()?),
                flags: FieldFlags(r.int()? as u16),
                default: r.int()?,
                merge_key: r.text(&self.text)?,
            });
        }
        let count = r.count()?;
        self.roots.reserve_exact(count);
        for _ in 0..count {
            let (group, version, kind) = (r.text(&self.text)?, r.text(&self.text)?, r.text(&self.text)?);
            self.roots.push(RootDef {
                group,
                version,
                kind,
                ty: TypeId(r.int()?),
            });
        }
        Ok(())
    }

    /// Every index must point at something, and no type may contain itself without a struct between.
    fn check(&self, r: &Reader<'_>) -> Result<(), FormatError> {
        let types = self.types.len() as u32;
        let known = |id: TypeId| id.0 < types;
        let types_ok = self.types.iter().enumerate().all(|(i, def)| match def {
            TypeDef::List { elem: inner, .. } | TypeDef::Map { value: inner, .. } => inner.0 < i as u32,
            TypeDef::Struct(id, _) => (id.0 as usize) < self.structs.len(),
            TypeDef::String(Some(id)) => (id.0 as usize) < self.enums.len(),
            _ => true,
        });
        let fields = self.fields.len() as u32;
        let structs_ok = self
            .structs
            .iter()
            .all(|s| s.own.start <= s.own.end && s.own.end <= fields);
        let fields_ok = self
            .fields
            .iter()
            .all(|f| known(f.ty) && f.default as usize <= self.defaults.len());
        let roots_ok = self.roots.iter().all(|root| known(root.ty));
        if types_ok && structs_ok && fields_ok && roots_ok {
            Ok(())
        } else {
            r.damaged()
        }
    }
}

fn map_kind_code(kind: MapKind) -> u32 {
    match kind {
        MapKind::Unset => 0,
        MapKind::Granular => 1,
        MapKind::Atomic => 2,
    }
}

fn read_map_kind(r: &mut Reader<'_>) -> Result<MapKind, FormatError> {
    match r.int()? {
        0 => Ok(MapKind::Unset),
        1 => Ok(MapKind::Granular),
        2 => Ok(MapKind::Atomic),
        _ => r.damaged(),
    }
}

fn write_type(w: &mut Writer, def: &TypeDef) {
    match def {
        TypeDef::Bool => w.int(0),
        TypeDef::Integer(Width::I32) => w.int(1),
        TypeDef::Integer(Width::I64) => w.int(2),
        TypeDef::Number => w.int(3),
        TypeDef::String(values) => {
            w.int(4);
            w.int(values.map_or(0, |id| id.0 + 1));
        }
        TypeDef::Bytes => w.int(5),
        TypeDef::Quantity => w.int(6),
        TypeDef::IntOrString => w.int(7),
        TypeDef::Time => w.int(8),
        TypeDef::MicroTime => w.int(9),
        TypeDef::Duration => w.int(10),
        TypeDef::RawExtension => w.int(11),
        TypeDef::FieldsV1 => w.int(12),
        TypeDef::Any => w.int(13),
        TypeDef::Struct(id, over) => {
            w.int(14);
            w.int(id.0);
            w.int(map_kind_code(*over));
        }
        TypeDef::List { elem, kind, wrapped } => {
            w.int(15);
            w.int(elem.0);
            w.int(u32::from(*wrapped));
            match kind {
                ListKind::Unset => w.int(0),
                ListKind::Atomic => w.int(1),
                ListKind::Set => w.int(2),
                ListKind::Map(keys) => {
                    w.int(3);
                    w.int(keys.len() as u32);
                    keys.iter().for_each(|key| w.string(key));
                }
            }
        }
        TypeDef::Map { value, kind } => {
            w.int(16);
            w.int(value.0);
            w.int(map_kind_code(*kind));
        }
    }
}

fn read_type(r: &mut Reader<'_>) -> Result<TypeDef, FormatError> {
    Ok(match r.int()? {
        0 => TypeDef::Bool,
        1 => TypeDef::Integer(Width::I32),
        2 => TypeDef::Integer(Width::I64),
        3 => TypeDef::Number,
        4 => TypeDef::String(r.int()?.checked_sub(1).map(EnumId)),
        5 => TypeDef::Bytes,
        6 => TypeDef::Quantity,
        7 => TypeDef::IntOrString,
        8 => TypeDef::Time,
        9 => TypeDef::MicroTime,
        10 => TypeDef::Duration,
        11 => TypeDef::RawExtension,
        12 => TypeDef::FieldsV1,
        13 => TypeDef::Any,
        14 => TypeDef::Struct(StructId(r.int()?), read_map_kind(r)?),
        15 => {
            let (elem, wrapped) = (TypeId(r.int()?), r.int()? != 0);
            let kind = match r.int()? {
                0 => ListKind::Unset,
                1 => ListKind::Atomic,
                2 => ListKind::Set,
                3 => {
                    let len = r.count()?;
                    ListKind::Map(
                        (0..len)
                            .map(|_| r.string().map(str::to_owned))
                            .collect::<Result<_, _>>()?,
                    )
                }
                _ => return r.damaged(),
            };
            TypeDef::List { elem, kind, wrapped }
        }
        16 => TypeDef::Map {
            value: TypeId(r.int()?),
            kind: read_map_kind(r)?,
        },
        _ => return r.damaged(),
    })
}
