package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/plimsoll-project/plimsoll/cmd/plim/client"
	"github.com/plimsoll-project/plimsoll/e2e/lab"
)

// usageError is wrong use of a command.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(c *cobra.Command, format string, args ...any) error {
	return &usageError{c.CommandPath(), fmt.Errorf(format, args...)}
}

// hinted is an error with what to do about it.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

func hint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// exitError ends with a code and says nothing more.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit with %d", e.code) }

// hints say what to do about ECS's errors.
var hints = map[string]string{
	"ClusterNotFoundException":                   `"plim cluster ls" lists the clusters, --cluster chooses one`,
	"ServiceNotFoundException":                   `"plim service ls" lists the services`,
	"ServiceNotActiveException":                  `it was deleted; create it again with "plim service create"`,
	"ClusterContainsServicesException":           `delete them first: "plim service ls"`,
	"ClusterContainsTasksException":              `stop them first: "plim task ls"`,
	"ClusterContainsContainerInstancesException": `its hosts must leave first: "plim instance ls"`,
}

// explain makes one line of an error, "plim: WHAT is wrong (where): what to
// do", and says with which code to exit.
func (a *app) explain(ctx context.Context, err error) (string, int) {
	var wrong *usageError
	var exit *exitError
	var with *hinted
	switch {
	case errors.As(err, &exit):
		return "", exit.code
	case errors.As(err, &wrong):
		return fmt.Sprintf("plim: %s: see \"%s --help\"", oneLine(wrong.Error()), wrong.command), 2
	case ctx.Err() != nil:
		return "plim: interrupted", 130
	case errors.As(err, &with):
		return fmt.Sprintf("plim: %s: %s", a.describe(err), with.hint), 1
	case errors.Is(err, client.ErrNotConfigured):
		return fmt.Sprintf("plim: %v: start a cluster with \"sudo plim dev\" and then eval \"$(plim dev env)\", or set %s", err, client.EnvAddress), 1
	case errors.Is(err, lab.ErrNoLab):
		return fmt.Sprintf("plim: %s: start one with \"sudo plim dev\"", oneLine(err.Error())), 1
	}
	return "plim: " + a.describe(err), 1
}

// describe writes an error; what gRPC says is put into words.
func (a *app) describe(err error) string {
	var grpcErr interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &grpcErr) {
		return oneLine(err.Error())
	}
	s := grpcErr.GRPCStatus()
	address := a.connection.Or(a.getenv).Address
	message := plain(oneLine(s.Message()))
	reason := ""
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			reason = info.GetReason()
		}
	}
	switch {
	case strings.HasPrefix(message, "unexpected HTTP status code"), strings.Contains(message, "error reading server preface"):
		return fmt.Sprintf("what answers at %s is not the control plane's API (%s): set %s to where it is", address, message, client.EnvAddress)
	case s.Code() == codes.Unavailable && strings.Contains(message, "connection refused"):
		return fmt.Sprintf("no control plane answers (%s): start one with \"sudo plim dev\", or set %s to where it is", address, client.EnvAddress)
	case s.Code() == codes.Unavailable && (strings.Contains(message, "certificate") || strings.Contains(message, "tls:")):
		return fmt.Sprintf("the control plane and you do not trust each other (%s: %s): set %s, %s and %s to this cluster's; for a development cluster eval \"$(plim dev env)\"",
			address, message, client.EnvCA, client.EnvCert, client.EnvKey)
	case s.Code() == codes.Unavailable && reason == "":
		return fmt.Sprintf("the control plane cannot be reached (%s: %s): try again, or check %s", address, message, client.EnvAddress)
	case reason != "" && hints[reason] != "":
		return fmt.Sprintf("%s (%s): %s", strings.TrimSuffix(message, "."), reason, hints[reason])
	case reason != "":
		return fmt.Sprintf("%s (%s)", strings.TrimSuffix(message, "."), reason)
	}
	return fmt.Sprintf("%s (%s)", message, s.Code())
}

// wrapping is what gRPC puts around an error of the network.
var wrapping = regexp.MustCompile(`(?:last )?connection error: desc = "(?:transport: )?(?:Error while dialing: |authentication handshake failed: )?(.*)"`)

// plain is gRPC's message without its wrapping.
func plain(s string) string {
	if m := wrapping.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return s
}

// syntax is how package strconv says that a flag's value is no number.
var syntax = regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": (invalid syntax|value out of range)`)

// flagError is a wrong flag in a user's words.
func flagError(c *cobra.Command, err error) error {
	text := syntax.ReplaceAllStringFunc(err.Error(), func(s string) string {
		if strings.HasSuffix(s, "range") {
			return "the number is too large"
		}
		return "it must be a number"
	})
	return usage(c, "%s", text)
}

// oneLine puts the lines of an error into one.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(strings.TrimSpace(s), func(r rune) bool { return r == '\n' }), "; ")
}
