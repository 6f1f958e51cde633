package client

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFlagsComeBeforeTheEnvironment(t *testing.T) {
	env := map[string]string{EnvAddress: "env:1", EnvCA: "env-ca", EnvCert: "env-cert", EnvKey: "env-key"}
	got := Config{Address: "flag:1", Key: "flag-key"}.Or(func(name string) string { return env[name] })
	if diff := cmp.Diff(Config{Address: "flag:1", CA: "env-ca", Cert: "env-cert", Key: "flag-key"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDialSaysWhatIsMissing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Config{}).Dial(); !errors.Is(err, ErrNotConfigured) {
		t.Errorf("without an address: %v", err)
	}
	for want, c := range map[string]Config{
		EnvCA:                {Address: "a:1"},
		EnvKey:               {Address: "a:1", CA: file, Cert: file},
		"no such file":       {Address: "a:1", CA: file + "x", Cert: file, Key: file},
		"no PEM certificate": {Address: "a:1", CA: file, Cert: file, Key: file},
	} {
		if _, err := c.Dial(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q in it", c, err, want)
		}
	}
}
