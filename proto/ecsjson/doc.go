// Package ecsjson turns ECS's JSON into the API's messages and back, by
// reflection: the one place that knows how ECS spells what proto/plimsoll/v1
// declares.
//
// Members have the fields' JSON names. Enums are spelled as their (wire) option
// or as the value's name without the enum's prefix, exactly. 64-bit integers
// are JSON numbers. Timestamps are RFC 3339 strings or epoch seconds; both are
// read, and Options choose which is written.
//
// Reading is strict: a member that does not exist, or has another type, is an
// error that names its path. Members that are null are as if absent. The text
// members cpu and memory may be given as numbers, as other tools do.
//
// Writing follows ECS: numbers and booleans that always have a value are always
// written; texts, enums, objects and optional members only when set. An empty
// list is written as [] in answers and in what only answers contain, and
// omitted in shapes that requests have too, but for those lists that ECS itself
// always answers (a container definition's portMappings, for example).
//
// The package keeps no state beyond what it derives from the descriptors, runs
// no goroutines, and imports the generated messages and protobuf alone.
package ecsjson
