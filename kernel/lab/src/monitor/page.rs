//! One page, as text and as JSON.

use core::fmt::{self, Write};
use hotmem::{Order, PageInfo, PageState, Pfn};
use hotmem_hotplug::{JsonString, OrNull};

/// The components of a page's state.
#[derive(Clone, Copy, Default)]
struct Parts {
    name: Option<&'static str>,
    order: Option<Order>,
    sections: Option<u32>,
    pages: Option<u64>,
}

fn parts(state: Option<PageState>) -> Parts {
    let named = |name| Parts { name: Some(name), ..Parts::default() };
    match state {
        None => Parts::default(),
        Some(PageState::Tail) => named("tail"),
        Some(PageState::Hole) => named("hole"),
        Some(PageState::Free { order }) => Parts { order: Some(order), ..named("free") },
        Some(PageState::Cached { order }) => Parts { order: Some(order), ..named("cached") },
        Some(PageState::Isolated { order }) => Parts { order: Some(order), ..named("isolated") },
        Some(PageState::Used { order, .. }) => Parts { order: Some(order), ..named("used") },
        Some(PageState::MemmapHead { sections, pages }) => {
            Parts { sections: Some(sections), pages: Some(pages), ..named("memmap-head") }
        }
        Some(PageState::MemmapTail { .. }) => named("memmap-tail"),
    }
}

/// Writes the state of a page as one line of JSON.
pub(super) fn json(page: &PageInfo, out: &mut dyn Write) -> fmt::Result {
    let Parts { name, order, sections, pages } = parts(page.state);
    writeln!(
        out,
        "{{\"pfn\":{},\"block\":{},\"node\":{},\"block_state\":\"{}\",\"state\":{},\"head\":{},\
         \"order\":{},\"owner\":{},\"sections\":{},\"pages\":{}}}",
        page.pfn.get(),
        page.block.get(),
        page.node.get(),
        page.block_state,
        OrNull(name.map(JsonString)),
        OrNull(page.head.map(Pfn::get)),
        OrNull(order.map(Order::get)),
        OrNull(page.held_by.map(JsonString)),
        OrNull(sections),
        OrNull(pages),
    )
}

/// Writes the state of a page, as text.
pub(super) fn text(page: &PageInfo, out: &mut dyn Write) -> fmt::Result {
    let Parts { name, order, sections, pages } = parts(page.state);
    let state = name.unwrap_or("uninitialised");
    write!(out, "{}: {state}, in {} ({}), {}", page.pfn, page.block, page.block_state, page.node)?;
    if let Some(order) = order {
        write!(out, ", {} pages", order.pages())?;
    }
    if let Some(by) = page.held_by {
        write!(out, " held by {by}")?;
    }
    if let (Some(sections), Some(pages)) = (sections, pages) {
        write!(out, ", {pages} pages that describe {sections} sections")?;
    }
    if let Some(head) = page.head.filter(|&head| head != page.pfn) {
        write!(out, ", of {head}")?;
    }
    writeln!(out)
}
