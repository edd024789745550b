use std::sync::Arc;

use multi_tier_cache_macros::cached;

struct LoadError<E>(E);
type Answer = Result<Arc<String>, LoadError<()>>;

#[derive(Debug)]
struct Users;

impl Users {
    #[cached(cache = &self.0)]
    async fn by_value(self) -> Answer {
        Ok(String::new())
    }

    #[cached(cache = &self.0)]
    async fn mutable(mut self) -> Answer {
        Ok(String::new())
    }

    #[cached(cache = &self.0)]
    async fn mutably(&mut self, id: u64) -> Answer {
        Ok(String::new())
    }

    #[cached(cache = &self.0)]
    async fn mutably_as_well(self: &mut Self) -> Answer {
        Ok(String::new())
    }

    #[cached(cache = &self.0)]
    async fn boxed(self: Box<Self>) -> Answer {
        Ok(String::new())
    }

    #[cached(cache = &self.0)]
    async fn named_in_a_text(&self) -> Answer {
        Ok(format!("{{self}}: {self:?}"))
    }
}

fn main() {}
