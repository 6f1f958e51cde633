package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
)

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // of the error, or of what is printed
		runs bool
	}{
		{nil, "", true},
		{[]string{"--log-level", "debug", "--log-format", "json"}, "", true},
		{[]string{"--log-level", "loud"}, `--log-level is "loud": it must be debug, info, warn or error`, false},
		{[]string{"--log-format", "xml"}, `--log-format is "xml": it must be text or json`, false},
		{[]string{"--colour"}, `unknown flag: --colour: see "thing --help"`, false},
		{[]string{"more"}, `unknown command "more" for "thing"`, false},
		{[]string{"--version"}, "thing v1\n", false},
	} {
		ran := false
		cmd := Command("thing", "A thing", "v1", func(_ context.Context, l *slog.Logger) error { ran = l != nil; return nil })
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetArgs(c.args)
		got := ""
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			got = err.Error()
		}
		if got += out.String(); !strings.Contains(got, c.want) || ran != c.runs || c.runs && got != "" {
			t.Errorf("%q: %q, ran %v", c.args, got, ran)
		}
	}
}
