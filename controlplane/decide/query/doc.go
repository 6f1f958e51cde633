// Package query is ECS's cluster query language: expressions over container
// instances, as memberOf constraints and list filters use them (ECS developer
// guide, "Cluster query language").
//
//	expression := or
//	or         := and (("||" | "or") and)*
//	and        := not (("&&" | "and") not)*
//	not        := ("!" | "not") not | "(" expression ")" | comparison
//	comparison := subject "exists" | subject "!exists" | subject operator argument
//	argument   := word | "[" word ("," word)* "]"
//
// It is pure: it imports the standard library alone.
package query
