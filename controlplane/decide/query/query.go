package query

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Target is what an expression is about.
type Target interface {
	// Values are the values of a subject, for example "attribute:stack" or
	// "agentVersion"; none if the target does not have it.
	Values(subject string) []string
}

// Expression is a parsed expression. It is immutable.
type Expression struct{ root node }

// Matches says whether the expression holds for the target.
func (e *Expression) Matches(t Target) bool { return e == nil || e.root.matches(t) }

// About says whether the expression asks for the subject.
func (e *Expression) About(subject string) bool { return e != nil && about(e.root, subject) }

func about(n node, subject string) bool {
	in := func(c node) bool { return about(c, subject) }
	switch n := n.(type) {
	case either:
		return slices.ContainsFunc(n, in)
	case both:
		return slices.ContainsFunc(n, in)
	case negated:
		return about(n.of, subject)
	case comparison:
		return n.subject == subject
	}
	return false
}

// Error says where an expression is wrong.
type Error struct {
	// Column counts from 1.
	Column  int
	Message string
}

// Error is the message with its column.
func (e *Error) Error() string { return fmt.Sprintf("column %d: %s", e.Column, e.Message) }

type node interface{ matches(Target) bool }

type (
	either     []node
	both       []node
	negated    struct{ of node }
	comparison struct {
		subject  string
		op       string
		words    []string
		patterns []*regexp.Regexp
	}
)

func (n either) matches(t Target) bool {
	return slices.ContainsFunc(n, func(c node) bool { return c.matches(t) })
}

func (n both) matches(t Target) bool {
	return !slices.ContainsFunc(n, func(c node) bool { return !c.matches(t) })
}

func (n negated) matches(t Target) bool { return !n.of.matches(t) }

func (n comparison) matches(t Target) bool {
	values := t.Values(n.subject)
	switch n.op {
	case "exists":
		return len(values) > 0
	case "!exists":
		return len(values) == 0
	case "!=", "!in", "!~":
		positive := n
		positive.op = n.op[1:]
		if n.op == "!=" {
			positive.op = "=="
		} else if n.op == "!~" {
			positive.op = "=~"
		}
		return !slices.ContainsFunc(values, positive.holds)
	}
	return slices.ContainsFunc(values, n.holds)
}

func (n comparison) holds(v string) bool {
	switch n.op {
	case "==", "in":
		return slices.Contains(n.words, v)
	case "=~":
		return n.patterns[0].MatchString(v)
	}
	c := compare(v, n.words[0])
	switch n.op {
	case ">":
		return c > 0
	case ">=":
		return c >= 0
	case "<":
		return c < 0
	}
	return c <= 0
}

// compare orders numbers as numbers, versions by their parts, and all else as
// text.
func compare(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		x, errX := strconv.ParseInt(as[i], 10, 64)
		y, errY := strconv.ParseInt(bs[i], 10, 64)
		switch {
		case errX != nil || errY != nil:
			if c := strings.Compare(as[i], bs[i]); c != 0 {
				return c
			}
		case x != y:
			if x < y {
				return -1
			}
			return 1
		}
	}
	return len(as) - len(bs)
}
