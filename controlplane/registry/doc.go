// Package registry is the cluster's image registry: CNCF distribution as a
// library with filesystem storage, behind the control plane's own identities.
//
// It owns its directory. Its goroutines are the library's and end with the
// context of New. It must not import the API or the store.
package registry
