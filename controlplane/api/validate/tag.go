package validate

import (
	"fmt"
	"strings"
	"unicode/utf8"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// MaxTags is how many tags a resource may have.
const MaxTags = 50

// Tags checks the tags of a request. Its error is an *Error.
func Tags(tags []*pb.Tag) error {
	var p problems
	p.tags("tags", tags)
	return p.err()
}

func (p *problems) tags(at string, tags []*pb.Tag) {
	if len(tags) > MaxTags {
		p.add(at, "there are %d tags: at most %d are allowed", len(tags), MaxTags)
	}
	seen := map[string]bool{}
	for i, t := range tags {
		at, key := fmt.Sprintf("%s[%d]", at, i), t.GetKey()
		switch {
		case key == "":
			p.add(at+".key", "required: give a key")
		case utf8.RuneCountInString(key) > 128:
			p.add(at+".key", "it is longer than 128 characters: shorten it")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			p.add(at+".key", "%s begins with aws:, which is kept for the system: give another", quote(key))
		case seen[key]:
			p.add(at+".key", "%s is given twice: give each key once", quote(key))
		}
		if utf8.RuneCountInString(t.GetValue()) > 256 {
			p.add(at+".value", "it is longer than 256 characters: shorten it")
		}
		seen[key] = true
	}
}
