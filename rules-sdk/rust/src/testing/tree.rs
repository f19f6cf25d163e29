//! JSON as a tree.

use crate::json::{Array, Object, Reader, ToJson};

const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Number(String), // as it was written
    String(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    pub fn parse(text: &str) -> Result<Tree, String> {
        let mut r = Reader::new(text);
        let tree = Tree::read(&mut r, 0);
        r.skip_space();
        tree.filter(|_| r.at_end()).ok_or_else(|| "expected one JSON value".to_string())
    }

    fn read(r: &mut Reader<'_>, depth: usize) -> Option<Tree> {
        r.skip_space();
        Some(match r.peek()? {
            b'{' | b'[' if depth == MAX_DEPTH => return None,
            b'{' => Tree::Object(Tree::read_object(r, depth + 1)?),
            b'[' => Tree::Array(Tree::read_array(r, depth + 1)?),
            b'"' => Tree::String(r.string()?),
            b'n' => r.take("null").map(|_| Tree::Null)?,
            b't' => r.take("true").map(|_| Tree::Bool(true))?,
            b'f' => r.take("false").map(|_| Tree::Bool(false))?,
            _ => Tree::Number(r.number()?.to_string()),
        })
    }

    fn read_object(r: &mut Reader<'_>, depth: usize) -> Option<Vec<(String, Tree)>> {
        let mut members: Vec<(String, Tree)> = Vec::new();
        r.take("{")?;
        r.skip_space();
        while r.take("}").is_none() {
            if !members.is_empty() {
                r.take(",")?;
                r.skip_space();
            }
            let key = r.string()?;
            r.skip_space();
            r.take(":")?;
            if members.iter().any(|(k, _)| *k == key) {
                return None;
            }
            members.push((key, Tree::read(r, depth)?));
            r.skip_space();
        }
        Some(members)
    }

    fn read_array(r: &mut Reader<'_>, depth: usize) -> Option<Vec<Tree>> {
        let mut items = Vec::new();
        r.take("[")?;
        r.skip_space();
        while r.take("]").is_none() {
            if !items.is_empty() {
                r.take(",")?;
            }
            items.push(Tree::read(r, depth)?);
            r.skip_space();
        }
        Some(items)
    }

    pub fn members(&self) -> Option<&[(String, Tree)]> {
        match self {
            Tree::Object(members) => Some(members),
            _ => None,
        }
    }

    pub fn member(&self, key: &str) -> Option<&Tree> {
        self.members()?.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    pub fn items(&self) -> &[Tree] {
        match self {
            Tree::Array(items) => items,
            _ => &[],
        }
    }

    pub fn string(&self) -> Option<&str> {
        match self {
            Tree::String(text) => Some(text),
            _ => None,
        }
    }

    /// Gives the text of an event's key, which is a string or a number.
    pub fn key(&self) -> Option<String> {
        match self {
            Tree::String(text) | Tree::Number(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// Walks a path such as `items[0].price`.
    pub fn at(&self, path: &str) -> Option<&Tree> {
        path.split('.').try_fold(self, |tree, part| {
            let mut steps = part.split('[');
            let key = steps.next().unwrap_or_default();
            let tree = if key.is_empty() { tree } else { tree.member(key)? };
            steps.try_fold(tree, |tree, index| {
                tree.items().get(index.strip_suffix(']')?.parse::<usize>().ok()?)
            })
        })
    }
}

impl ToJson for Tree {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Tree::Null => out.extend_from_slice(b"null"),
            Tree::Bool(yes) => yes.write(out),
            Tree::Number(text) => out.extend_from_slice(text.as_bytes()),
            Tree::String(text) => text.write(out),
            Tree::Array(items) => {
                let array = Array::begin(std::mem::take(out));
                *out = items.iter().fold(array, Array::push).end();
            }
            Tree::Object(members) => {
                let object = Object::begin(std::mem::take(out));
                *out = members.iter().fold(object, |o, (key, value)| o.set(key, value)).end();
            }
        }
    }
}
