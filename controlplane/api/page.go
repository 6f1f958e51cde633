package api

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
)

// pageSize is the most that one answer lists, and what it lists unasked.
const pageSize = 100

// item is something to list; keys order it and never change.
type item struct{ key, value string }

// page answers the page of items that the token asks for, and the token of the
// next one. The token holds the last item's key, so that a page begins where
// the one before ended, whatever came and went meanwhile.
func page(operation string, items []item, descending bool, token string, most *int32) (values []string, next string, err error) {
	size := pageSize
	if most != nil {
		if size = int(*most); size < 1 || size > pageSize {
			return nil, "", apierror.New(apierror.InvalidParameter, "maxResults: %d is out of range: give 1 to %d", size, pageSize)
		}
	}
	order := func(a, b item) int {
		if descending {
			a, b = b, a
		}
		return strings.Compare(a.key, b.key)
	}
	slices.SortFunc(items, order)
	if token != "" {
		data, err := base64.RawURLEncoding.DecodeString(token)
		last, ok := strings.CutPrefix(string(data), operation+"\n")
		if err != nil || !ok {
			return nil, "", apierror.New(apierror.InvalidParameter, "nextToken: it is not one that %s answered: begin without", operation)
		}
		at, found := slices.BinarySearchFunc(items, item{key: last}, order)
		if found {
			at++
		}
		items = items[at:]
	}
	if len(items) > size {
		items = items[:size]
		next = base64.RawURLEncoding.EncodeToString([]byte(operation + "\n" + items[size-1].key))
	}
	for _, i := range items {
		values = append(values, i.value)
	}
	return values, next, nil
}
