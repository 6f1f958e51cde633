package model

import (
	"iter"
	"sync"

	"github.com/tidwall/btree"
)

// Table is an immutable ordered table. The zero value is empty.
type Table[T any] struct {
	tree *btree.Map[string, T]
}

// Get finds a row.
func (t Table[T]) Get(key string) (T, bool) {
	if t.tree == nil {
		var zero T
		return zero, false
	}
	return t.tree.Get(key)
}

// Len is the number of rows.
func (t Table[T]) Len() int {
	if t.tree == nil {
		return 0
	}
	return t.tree.Len()
}

// All yields the rows in the order of their keys.
func (t Table[T]) All() iter.Seq2[string, T] { return t.Prefix("") }

// Prefix yields the rows whose key begins with prefix, in order.
func (t Table[T]) Prefix(prefix string) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		if t.tree == nil {
			return
		}
		t.tree.Ascend(prefix, func(k string, v T) bool {
			return len(k) >= len(prefix) && k[:len(prefix)] == prefix && yield(k, v)
		})
	}
}

// copying guards what a copy writes into the tree that it is made from.
var copying sync.Mutex

// edit is a copy that may be changed until it is published.
func (t Table[T]) edit() Table[T] {
	if t.tree == nil {
		return Table[T]{tree: btree.NewMap[string, T](0)}
	}
	copying.Lock()
	defer copying.Unlock()
	return Table[T]{tree: t.tree.Copy()}
}
