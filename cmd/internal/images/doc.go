// Package images moves images between files and the cluster's registry: what
// `plim image` does. It reads OCI image layouts (directories and tar archives)
// and docker-archives, compressed with gzip or not, in place where it can.
//
// It owns no state but a temporary file while a compressed archive is read; its
// goroutines end with the call that started them. It must not import the control
// plane.
package images
