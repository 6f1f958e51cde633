// Package e2e has the end-to-end tests: the programs as they are built, on real
// hosts of the lab with real containerd, real etcd and real networks, used
// through the API and the command line alone. They need root and the programs
// in bin/ (`make build`).
package e2e
