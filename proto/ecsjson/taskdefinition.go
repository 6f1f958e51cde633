package ecsjson

import (
	"fmt"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// readOnly are the members of a described task definition that a registration
// does not take.
var readOnly = map[string]bool{
	"taskDefinitionArn": true, "revision": true, "status": true, "requiresAttributes": true,
	"compatibilities": true, "registeredAt": true, "registeredBy": true, "deregisteredAt": true,
	"deleteRequestedAt": true,
}

// UnmarshalTaskDefinition reads a task definition file: the input of
// RegisterTaskDefinition, or what DescribeTaskDefinition answers, with or
// without its {"taskDefinition": ...} around it; the members that only answers
// have are dropped. Errors are as Unmarshal's.
func UnmarshalTaskDefinition(data []byte) (*pb.RegisterTaskDefinitionRequest, error) {
	o, err := parse(data)
	if err != nil {
		return nil, err
	}
	if inner := o.get("taskDefinition"); inner != nil {
		if o, err = unwrap(o, inner); err != nil {
			return nil, err
		}
	}
	kept := make(object, 0, len(o))
	for _, m := range o {
		if !readOnly[m.name] {
			kept = append(kept, m)
		}
	}
	r := &pb.RegisterTaskDefinitionRequest{}
	if err := fill(kept, r); err != nil {
		return nil, err
	}
	return r, nil
}

// unwrap is the described task definition with the tags beside it.
func unwrap(outer object, inner node) (object, error) {
	o, ok := inner.(object)
	if !ok {
		return nil, &Error{"taskDefinition", fmt.Sprintf("expected an object, got %s", describe(inner))}
	}
	for _, m := range outer {
		switch m.name {
		case "taskDefinition":
		case "tags":
			if o.get("tags") != nil {
				return nil, &Error{"taskDefinition.tags", "given beside taskDefinition too: give tags once"}
			}
			o = append(object{m}, o...)
		default:
			return nil, &Error{m.name, "unknown member beside taskDefinition"}
		}
	}
	return o, nil
}
