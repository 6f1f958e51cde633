package main

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/plimsoll-project/plimsoll/cmd/internal/images"
	"github.com/plimsoll-project/plimsoll/cmd/plim/render"
)

func TestImagesInEveryFormat(t *testing.T) {
	all := []images.Image{{Repository: "sample", Tags: []string{"1"}, Digest: "sha256:00", Size: 3 << 20}}
	for _, tc := range []struct {
		format render.Format
		all    []images.Image
		want   string
	}{
		{render.Table, all, "1 image(s)\n"},
		{render.YAML, all, "images:\n- digest: sha256:00\n  repository: sample\n  size: 3145728\n  tags:\n  - \"1\"\n"},
		{render.JSON, nil, "{\n    \"images\": []\n}\n"},
	} {
		var out bytes.Buffer
		a := &app{out: &out, format: tc.format}
		if err := a.showImages(tc.all, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%d image(s)\n", len(tc.all))
			return err
		}); err != nil || out.String() != tc.want {
			t.Errorf("%s: %q, %v", tc.format, out.String(), err)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 3 << 20: "3.0 MiB", 5 << 30: "5.0 GiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
}
