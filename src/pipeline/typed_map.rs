//! A map from a type to one value of it, as `http::Extensions` is.
//!
//! A step declares a type of its own for what it wants to find again in the next pass. A type that
//! is private to the step's file can be read and set there only.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

type Values = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// At most one value of each type. Shared between the steps that run at the same time.
#[derive(Default)]
pub struct TypedMap(Mutex<Values>);

impl TypedMap {
    /// The value of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let value = self.lock().get(&TypeId::of::<T>()).cloned();
        value.and_then(|value| value.downcast().ok())
    }

    /// Sets the value of this type.
    pub fn set<T: Any + Send + Sync>(&self, value: T) {
        self.lock().insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// Removes the value of this type.
    pub fn clear<T: Any + Send + Sync>(&self) {
        self.lock().remove(&TypeId::of::<T>());
    }

    /// Changes the value of this type, if there is one.
    pub fn change<T: Any + Send + Sync + Clone>(&self, change: impl FnOnce(&mut T)) {
        let mut values = self.lock();
        if let Some(value) = take(&mut values) {
            insert_changed(&mut values, value, change);
        }
    }

    /// Changes the value of this type, or its default if there is none.
    pub fn change_or_default<T: Any + Send + Sync + Clone + Default>(
        &self,
        change: impl FnOnce(&mut T),
    ) {
        let mut values = self.lock();
        let value = take(&mut values).unwrap_or_default();
        insert_changed(&mut values, value, change);
    }

    fn lock(&self) -> MutexGuard<'_, Values> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take<T: Any + Send + Sync>(values: &mut Values) -> Option<Arc<T>> {
    let value = values.remove(&TypeId::of::<T>())?;
    value.downcast().ok()
}

fn insert_changed<T: Any + Send + Sync + Clone>(
    values: &mut Values,
    mut value: Arc<T>,
    change: impl FnOnce(&mut T),
) {
    change(Arc::make_mut(&mut value));
    values.insert(TypeId::of::<T>(), value);
}

/// Values may hold secrets, so that only their number is shown.
impl fmt::Debug for TypedMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedMap")
            .field("values", &self.lock().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, Default, PartialEq)]
    struct Count(u32);

    #[derive(Debug, PartialEq)]
    struct Name(&'static str);

    #[test]
    fn each_type_has_one_value_of_its_own() {
        let map = TypedMap::default();
        map.set(Count(1));
        map.set(Name("a"));
        map.set(Count(2));
        assert_eq!(map.get::<Count>().as_deref(), Some(&Count(2)));
        assert_eq!(map.get::<Name>().as_deref(), Some(&Name("a")));
        map.clear::<Count>();
        assert_eq!(map.get::<Count>(), None);
        assert_eq!(map.get::<Name>().as_deref(), Some(&Name("a")));
    }

    #[test]
    fn a_change_leaves_readers_of_the_value_before_alone() {
        let map = TypedMap::default();
        map.change::<Count>(|count| count.0 += 1);
        assert_eq!(map.get::<Count>(), None);
        map.change_or_default::<Count>(|count| count.0 += 1);
        let before = map.get::<Count>();
        map.change::<Count>(|count| count.0 += 1);
        assert_eq!(before.as_deref(), Some(&Count(1)));
        assert_eq!(map.get::<Count>().as_deref(), Some(&Count(2)));
    }
}
