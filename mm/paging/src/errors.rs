//! Error types as tables: each variant stands once, with its fields and its message.

/// Declares error types: an enum with a message behind each variant, or a struct with one message, and their `Display` and
/// [`Error`](core::error::Error). Derives would do so, too, but bring a parser of Rust into every kernel's build.
///
/// A message names the fields. It is a literal, or in parentheses a literal and values, as [`write!`] takes them; or in braces
/// `f => result`, where the result of writing to `f` depends on more.
///
/// ```
/// hotmem_paging::errors! {
///     /// Why no page is lent.
///     #[derive(Debug)]
///     pub enum LendError {
///         /// All are lent.
///         None => "no page is left",
///         /// The borrower has had too many.
///         TooMany(borrower: u32, pages: &'static [u64]) => ("{borrower} has {} pages", pages.len()),
///         /// The page is broken, or was.
///         Broken {
///             /// Whether it is mended.
///             mended: bool,
///         } => { f => f.write_str(if *mended { "it was broken" } else { "it is broken" }) },
///     }
///
///     /// The page was not lent.
///     #[derive(Debug)]
///     pub struct NotLent {
///         /// Its number.
///         pub page: u64,
///     } => "page {page} was not lent";
///
///     /// Nothing was lent.
///     #[derive(Debug)]
///     pub struct NoneLent => "no page is lent";
/// }
/// assert_eq!(LendError::TooMany(7, &[1, 2]).to_string(), "7 has 2 pages");
/// assert_eq!(LendError::Broken { mended: true }.to_string(), "it was broken");
/// assert_eq!(NotLent { page: 3 }.to_string(), "page 3 was not lent");
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! errors {
    () => {};
    (
        $(#[$about:meta])*
        $vis:vis enum $name:ident $(<$space:ident: $bound:ident = $default:ident>)? {$(
            $(#[$why:meta])*
            $variant:ident
                $(($($place:tt: $type:ty),+ $(,)?))?
                $({$($(#[$what:meta])* $field:ident: $kind:ty),+ $(,)?})?
            => $message:tt
        ),+ $(,)?}
        $($rest:tt)*
    ) => {
        $(#[$about])*
        $vis enum $name $(<$space: $bound = $default>)? {$(
            $(#[$why])*
            $variant $(($($type),+))? $({$($(#[$what])* $field: $kind),+})?
        ),+}
        $crate::errors! {
            @impl [$(<$space: $bound>)?] [$name $(<$space>)?]
            $(Self::$variant $(($($place),+))? $({$($field),+})? => $message),+
        }
        $crate::errors! { $($rest)* }
    };
    (
        $(#[$about:meta])*
        $vis:vis struct $name:ident {
            $($(#[$what:meta])* $shown:vis $field:ident: $kind:ty),+ $(,)?
        } => $message:tt;
        $($rest:tt)*
    ) => {
        $(#[$about])*
        $vis struct $name {$($(#[$what])* $shown $field: $kind),+}
        $crate::errors! { @impl [] [$name] Self {$($field),+} => $message }
        $crate::errors! { $($rest)* }
    };
    ($(#[$about:meta])* $vis:vis struct $name:ident => $message:tt; $($rest:tt)*) => {
        $(#[$about])*
        $vis struct $name;
        $crate::errors! { @impl [] [$name] Self => $message }
        $crate::errors! { $($rest)* }
    };
    (@impl [$($generics:tt)*] [$($name:tt)+] $($pattern:pat => $message:tt),+) => {
        impl $($generics)* ::core::fmt::Display for $($name)+ {
            #[allow(unused_variables, reason = "a message need not name every field")]
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match self {$($pattern => $crate::errors!(@write f $message)),+}
            }
        }

        impl $($generics)* ::core::error::Error for $($name)+ {}
    };
    (@write $f:ident $text:literal) => {
        ::core::write!($f, $text)
    };
    (@write $f:ident ($($text:tt)+)) => {
        ::core::write!($f, $($text)+)
    };
    (@write $f:ident {$out:ident => $result:expr}) => {{
        let $out = $f;
        $result
    }};
}
