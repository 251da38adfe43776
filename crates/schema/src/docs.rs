//! Upstream's documentation texts, kept apart from the facts so that a server that explains nothing
//! does not hold them in memory.

use crate::model::{EnumId, Field, FormatError, StructId, format};

const BUILTIN: &[u8] = include_bytes!("../data/docs.bin");

/// Documentation texts aligned with the structs, fields and enumerations of one schema.
#[derive(Clone, Debug, Default)]
pub struct Docs {
    /// Distinct texts; index 0 is the empty one.
    pub texts: Vec<String>,
    /// For each struct the index of its text.
    pub structs: Vec<u32>,
    /// For each field the index of its text.
    pub fields: Vec<u32>,
    /// For each enumeration the index of its list of values in words.
    pub enums: Vec<u32>,
    /// OpenAPI name and text of the types that are no structs here, such as `Quantity`.
    pub others: Vec<(String, u32)>,
}

impl Docs {
    /// The texts of [`crate::builtin`], inflated anew: drop them when done.
    pub fn builtin() -> Self {
        Self::from_bytes(BUILTIN).expect("the committed data is whole: a test reads it")
    }

    /// Text of a struct, or empty.
    pub fn of_struct(&self, id: StructId) -> &str {
        self.at(self.structs.get(id.0 as usize))
    }

    /// Text of a field, or empty.
    pub fn of_field(&self, field: Field<'_>) -> &str {
        self.at(self.fields.get(field.index() as usize))
    }

    /// The values of an enumeration in words, or empty.
    pub fn of_enum(&self, id: EnumId) -> &str {
        self.at(self.enums.get(id.0 as usize))
    }

    /// Text of a type that is no struct here, by OpenAPI name.
    pub fn of_other(&self, name: &str) -> &str {
        self.at(self.others.iter().find(|(n, _)| n == name).map(|(_, text)| text))
    }

    fn at(&self, index: Option<&u32>) -> &str {
        index
            .and_then(|i| self.texts.get(*i as usize))
            .map_or("", String::as_str)
    }

    /// The texts as a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = format::Writer::default();
        w.int(self.texts.len() as u32);
        self.texts.iter().for_each(|text| w.string(text));
        for list in [&self.structs, &self.fields, &self.enums] {
            w.int(list.len() as u32);
            list.iter().for_each(|i| w.int(*i));
        }
        w.int(self.others.len() as u32);
        for (name, text) in &self.others {
            w.string(name);
            w.int(*text);
        }
        format::deflate(&w.0)
    }

    /// Reads what [`Docs::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes do not inflate or end early.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let bytes = format::inflate(bytes)?;
        let mut r = format::Reader::new(&bytes);
        let mut docs = Self::default();
        for _ in 0..r.count()? {
            docs.texts.push(r.string()?.to_owned());
        }
        for list in [&mut docs.structs, &mut docs.fields, &mut docs.enums] {
            let count = r.count()?;
            *list = (0..count).map(|_| r.int()).collect::<Result<_, _>>()?;
        }
        for _ in 0..r.count()? {
            docs.others.push((r.string()?.to_owned(), r.int()?));
        }
        Ok(docs)
    }
}
