//! Which types fit together (cel-go's checker/types.go).

use std::collections::HashMap;
use std::sync::Arc;

use crate::types::{OPTIONAL, Type};

/// What the free type variables stand for. Attempts that fail are undone.
#[derive(Default)]
pub(super) struct Mapping {
    bound: HashMap<Arc<str>, Type>,
    undo: Vec<(Arc<str>, Option<Type>)>,
    steps: usize,
}

/// Steps of one check after which types are taken to fit: types that share their parts can take exponentially long.
const MAX_STEPS: usize = 200_000;

impl Mapping {
    /// Whether a value of type `two` can be used where `one` is expected; free variables are bound as needed.
    pub fn assignable(&mut self, one: &Type, two: &Type) -> bool {
        self.steps = 0;
        let mark = self.undo.len();
        if self.fits(one, two) {
            return true;
        }
        self.roll_back(mark);
        false
    }

    /// As [`Self::assignable`] for each pair of two lists.
    pub fn assignable_all(&mut self, one: &[Type], two: &[Type]) -> bool {
        self.steps = 0;
        let mark = self.undo.len();
        if one.len() == two.len() && one.iter().zip(two).all(|(one, two)| self.fits(one, two)) {
            return true;
        }
        self.roll_back(mark);
        false
    }

    fn roll_back(&mut self, mark: usize) {
        for (name, before) in self.undo.drain(mark..).rev() {
            match before {
                Some(ty) => self.bound.insert(name, ty),
                None => self.bound.remove(&name),
            };
        }
    }

    fn bind(&mut self, name: &Arc<str>, ty: Type) {
        let before = self.bound.insert(name.clone(), ty);
        self.undo.push((name.clone(), before));
    }

    fn fits(&mut self, one: &Type, two: &Type) -> bool {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return true;
        }
        if let Type::Param(name) = two {
            let (valid, bound) = self.substitutes(one, name);
            if valid || bound {
                return valid;
            }
        }
        if let Type::Param(name) = one {
            return self.substitutes(two, name).0;
        }
        match (one, two) {
            (Type::Dyn | Type::Error, _) | (_, Type::Dyn | Type::Error) => true,
            (Type::Null, other) | (other, Type::Null) => nullable(other),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(one), Type::List(two)) => self.fits(one, two),
            (Type::Map(one), Type::Map(two)) => self.fits(&one.0, &two.0) && self.fits(&one.1, &two.1),
            (Type::Opaque(one, of), Type::Opaque(two, other)) => {
                one == two && of.len() == other.len() && of.iter().zip(&**other).all(|(a, b)| self.fits(a, b))
            }
            _ => one == two,
        }
    }

    /// Whether a variable can stand for a type, and whether it already stood for something.
    fn substitutes(&mut self, ty: &Type, name: &Arc<str>) -> (bool, bool) {
        if matches!(ty, Type::Param(other) if other == name) {
            return (true, true);
        }
        if let Some(bound) = self.bound.get(name).cloned() {
            if *ty == bound {
                return (true, true);
            }
            if self.fits(ty, &bound) {
                let general = most_general(ty, &bound);
                if self.absent(name, &general) {
                    self.bind(name, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.absent(name, ty) {
            self.bind(name, ty.clone());
            return (true, false);
        }
        (false, false)
    }

    /// Whether a variable does not occur in a type.
    fn absent(&mut self, name: &Arc<str>, within: &Type) -> bool {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return false;
        }
        match within {
            Type::Param(other) if other == name => false,
            Type::Param(other) => match self.bound.get(other).cloned() {
                Some(bound) => self.absent(name, &bound),
                None => true,
            },
            _ => within.parameters().into_iter().all(|part| self.absent(name, part)),
        }
    }

    /// A type with its variables replaced by what they stand for; free ones by `dyn`, if asked for.
    pub fn substitute(&self, ty: &Type, free_to_dyn: bool) -> Type {
        match ty {
            Type::Param(name) => match self.bound.get(name) {
                Some(bound) => self.substitute(bound, free_to_dyn),
                None if free_to_dyn => Type::Dyn,
                None => ty.clone(),
            },
            Type::List(element) => {
                let new = self.substitute(element, free_to_dyn);
                if new == **element { ty.clone() } else { Type::list(new) }
            }
            Type::Map(entry) => Type::map(
                self.substitute(&entry.0, free_to_dyn),
                self.substitute(&entry.1, free_to_dyn),
            ),
            Type::Type(Some(of)) => Type::type_of(self.substitute(of, free_to_dyn)),
            Type::Opaque(name, of) if !of.is_empty() => Type::Opaque(
                name.clone(),
                of.iter().map(|part| self.substitute(part, free_to_dyn)).collect(),
            ),
            _ => ty.clone(),
        }
    }
}

/// Types of which `null` is a value, as the first type checker had it.
fn nullable(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Null | Type::Opaque(..) | Type::Object(_) | Type::Timestamp | Type::Duration
    )
}

/// The more general of two types that fit together.
pub(super) fn most_general(one: &Type, two: &Type) -> Type {
    if less_specific(one, two) {
        one.clone()
    } else {
        two.clone()
    }
}

fn less_specific(one: &Type, two: &Type) -> bool {
    match (one, two) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::List(one), Type::List(two)) => less_specific(one, two),
        (Type::Map(one), Type::Map(two)) => less_specific(&one.0, &two.0) && less_specific(&one.1, &two.1),
        (Type::Type(_), Type::Type(_)) => true,
        (Type::Opaque(one, of), Type::Opaque(two, other)) => {
            one == two && of.len() == other.len() && of.iter().zip(&**other).all(|(a, b)| less_specific(a, b))
        }
        _ => one == two,
    }
}

/// What an optional type holds, or the type itself.
pub(super) fn unwrap_optional(ty: &Type) -> (&Type, bool) {
    match ty {
        Type::Opaque(name, of) if &**name == OPTIONAL && !of.is_empty() => (&of[0], true),
        _ => (ty, false),
    }
}
