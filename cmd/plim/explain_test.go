package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestErrorsAreInAUsersWords(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }}
	a.connection.Address = "host:7400"
	for _, c := range []struct {
		code          codes.Code
		message, want string
	}{
		{codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp: lookup host: no such host"`,
			"the control plane cannot be reached (host:7400: dial tcp: lookup host: no such host): try again, or check PLIMSOLL_ADDRESS"},
		{codes.Unavailable, `last connection error: connection error: desc = "transport: authentication handshake failed: tls: bad certificate"`,
			"the control plane and you do not trust each other (host:7400: tls: bad certificate): set PLIMSOLL_CA, PLIMSOLL_CERT and PLIMSOLL_KEY to this cluster's"},
		{codes.Unimplemented, "unexpected HTTP status code received from server: 404 (Not Found)",
			"what answers at host:7400 is not the control plane's API (unexpected HTTP status code received from server: 404 (Not Found)): set PLIMSOLL_ADDRESS to where it is"},
		{codes.NotFound, "task \"a\"\ndoes not exist", `task "a"; does not exist (NotFound)`},
	} {
		if got := a.describe(status.Error(c.code, c.message)); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s:\n got %s\nwant %s", c.message, got, c.want)
		}
	}
}

func TestFlagErrors(t *testing.T) {
	for in, want := range map[string]string{
		`invalid argument "abc" for "--count" flag: strconv.ParseInt: parsing "abc": invalid syntax`:     `invalid argument "abc" for "--count" flag: it must be a number`,
		`invalid argument "9e9" for "--count" flag: strconv.ParseInt: parsing "9e9": value out of range`: `invalid argument "9e9" for "--count" flag: the number is too large`,
		"unknown flag: --colour": "unknown flag: --colour",
	} {
		if got := flagError(&cobra.Command{}, errors.New(in)).Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
