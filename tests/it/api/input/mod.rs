//! Bad input: every field of every body, bodies that are none, paths and queries, and what becomes of odd characters.
//! The loops go over the OpenAPI document, so that a call or a field that is added must say here what it takes.

mod bodies;
mod fields;
mod paths;
mod text;
