// Package storetest is the suite that says what a store.Store is; every
// implementation passes it. It holds no state, and the goroutines of its tests
// end with them. Only tests import it.
package storetest
