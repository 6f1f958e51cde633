// Package liveness decides when a host is lost: it remembers since when each
// host is not connected, and gives a host's tasks up once that is too long. It
// is pure.
package liveness
