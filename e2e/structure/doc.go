// Package structure has the tests that keep the tree's shape: which package may
// import which, that every package says what it is for, and that the fixed top
// level holds.
package structure
