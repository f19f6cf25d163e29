use std::cell::Cell;
use std::fmt;

use crate::json::{Object, Reader, ToJson};

/// A parameter of the rule, whose value whoever activates the rule may set; see
/// [`Declare::param`](crate::Declare::param).
pub struct Param<T: ParamType> {
    value: &'static Cell<T>,
}

impl<T: ParamType> Param<T> {
    /// Returns the parameter's value; before the server has configured the rule, its default.
    #[inline]
    pub fn get(self) -> T {
        self.value.get()
    }
}

impl<T: ParamType> Clone for Param<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ParamType> Copy for Param<T> {}

impl<T: ParamType> fmt::Debug for Param<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Param").field(&self.get()).finish()
    }
}

/// The types of parameters: `f64`, `i64`, `bool` and `&'static str`.
pub trait ParamType: ToJson + Copy + Default + fmt::Debug + 'static {
    #[doc(hidden)]
    const NAME: &'static str;

    #[doc(hidden)]
    fn read(text: &mut Text<'_>) -> Option<Self>;
}

#[doc(hidden)]
pub struct Text<'a>(Reader<'a>);

impl ParamType for f64 {
    const NAME: &'static str = "f64";

    fn read(text: &mut Text<'_>) -> Option<f64> {
        text.0.number()?.parse().ok().filter(|v: &f64| v.is_finite())
    }
}

impl ParamType for i64 {
    const NAME: &'static str = "i64";

    fn read(text: &mut Text<'_>) -> Option<i64> {
        text.0.number()?.parse().ok()
    }
}

impl ParamType for bool {
    const NAME: &'static str = "bool";

    fn read(text: &mut Text<'_>) -> Option<bool> {
        let yes = text.0.take("true").map(|_| true);
        yes.or_else(|| text.0.take("false").map(|_| false))
    }
}

impl ParamType for &'static str {
    const NAME: &'static str = "utf8";

    /// An instance is configured once, so what is leaked here lives as long as it anyway.
    fn read(text: &mut Text<'_>) -> Option<&'static str> {
        text.0.string().map(|s| &*Box::leak(s.into_boxed_str()))
    }
}

/// A parameter of some type, as it is declared.
pub(crate) struct Declared<T: ParamType> {
    name: String,
    default: Option<T>,
    description: String,
    value: &'static Cell<T>,
}

pub(crate) trait AnyParam {
    fn name(&self) -> &str;
    fn kind(&self) -> &'static str;
    fn describe(&self, object: Object) -> Object;
    fn read(&self, text: &mut Text<'_>) -> Option<()>;
}

impl<T: ParamType> Declared<T> {
    pub fn new(name: &str, default: Option<T>, description: &str) -> Declared<T> {
        Declared {
            name: name.to_string(),
            default,
            description: description.to_string(),
            value: Box::leak(Box::new(Cell::new(default.unwrap_or_default()))),
        }
    }

    pub fn param(&self) -> Param<T> {
        Param { value: self.value }
    }
}

impl<T: ParamType> AnyParam for Declared<T> {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        T::NAME
    }

    fn describe(&self, object: Object) -> Object {
        object
            .set("name", self.name.as_str())
            .set("type", T::NAME)
            .set("default", self.default)
            .set("description", Some(&self.description).filter(|d| !d.is_empty()))
    }

    fn read(&self, text: &mut Text<'_>) -> Option<()> {
        self.value.set(T::read(text)?);
        Some(())
    }
}

/// Sets parameters from what the server gives: an object of all of them, in their order, without
/// white space. An error names the parameter.
pub(crate) fn configure(params: &[Box<dyn AnyParam>], text: &str) -> Result<(), String> {
    let mut text = Text(Reader::new(text));
    let mut before = "{";
    for p in params {
        let named = text.0.take(before).and_then(|_| text.0.string());
        if named.as_deref() != Some(p.name()) || text.0.take(":").is_none() {
            return Err(["expected param \"", p.name(), "\""].concat());
        }
        if p.read(&mut text).is_none() {
            return Err(["param \"", p.name(), "\": expected a value of type ", p.kind()].concat());
        }
        before = ",";
    }
    if params.is_empty() {
        text.0.take("{");
    }
    if text.0.take("}").is_none() || !text.0.at_end() {
        return Err("expected an object of the declared params and nothing else".to_string());
    }
    Ok(())
}
