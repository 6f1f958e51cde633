package ecsjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxDepth bounds how deep a document may nest; ECS's shapes stay below 10.
const maxDepth = 32

// node is a JSON value: nil, bool, string, json.Number, []node or object.
type node any

// object keeps its members in their order.
type object []member

type member struct {
	name  string
	value node
}

// get finds a member that is there and not null.
func (o object) get(name string) node {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// parse reads exactly one JSON object.
func parse(data []byte) (object, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("the document is not UTF-8 text")
	}
	dec := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	dec.UseNumber()
	n, err := value(dec, 0)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more after the first JSON value")
		}
	}
	if err != nil {
		return nil, located(data, dec.InputOffset(), err)
	}
	o, ok := n.(object)
	if !ok {
		return nil, fmt.Errorf("expected an object, got %s", describe(n))
	}
	return o, nil
}

// located adds the line on which reading stopped.
func located(data []byte, offset int64, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		offset = syntax.Offset
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	offset = min(offset, int64(len(data)))
	return fmt.Errorf("line %d: %w", 1+bytes.Count(data[:offset], []byte("\n")), err)
}

func value(dec *json.Decoder, depth int) (node, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	d, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth == maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	if d == '[' {
		list := []node{}
		for dec.More() {
			n, err := value(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, n)
		}
		_, err = dec.Token()
		return list, err
	}
	o := object{}
	seen := map[string]bool{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name := key.(string)
		if seen[name] {
			return nil, fmt.Errorf("member %q is given twice", name)
		}
		seen[name] = true
		n, err := value(dec, depth+1)
		if err != nil {
			return nil, err
		}
		o = append(o, member{name, n})
	}
	_, err = dec.Token()
	return o, err
}

// describe names a value for an error, short.
func describe(n node) string {
	switch v := n.(type) {
	case nil:
		return "null"
	case bool:
		return fmt.Sprint(v)
	case string:
		if utf8.RuneCountInString(v) > 40 {
			v = string([]rune(v)[:40]) + "..."
		}
		return fmt.Sprintf("%q", v)
	case json.Number:
		return "the number " + v.String()
	case []node:
		return "a list"
	}
	return "an object"
}
