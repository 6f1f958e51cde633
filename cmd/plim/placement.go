package main

import (
	"fmt"
	"strings"

	"github.com/plimsoll-project/plimsoll/proto/ecsjson"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// parseStrategy reads spread:attribute:ecs.availability-zone, binpack:memory or
// random, or the aws command line's type=spread,field=....
func parseStrategy(s string) (*pb.PlacementStrategy, error) {
	kind, field, err := typed(s, "field")
	if err != nil {
		return nil, err
	}
	t, ok := ecsjson.ParseEnum[pb.PlacementStrategyType](kind)
	if !ok {
		return nil, fmt.Errorf("placement strategy %q: the type must be spread, binpack or random", s)
	}
	return &pb.PlacementStrategy{Type: t, Field: field}, nil
}

// parseConstraint reads distinctInstance or memberOf:EXPRESSION, or the aws
// command line's type=memberOf,expression=....
func parseConstraint(s string) (*pb.PlacementConstraint, error) {
	kind, expression, err := typed(s, "expression")
	if err != nil {
		return nil, err
	}
	t, ok := ecsjson.ParseEnum[pb.PlacementConstraintType](kind)
	if !ok {
		return nil, fmt.Errorf("placement constraint %q: the type must be distinctInstance or memberOf", s)
	}
	return &pb.PlacementConstraint{Type: t, Expression: expression}, nil
}

// typed splits TYPE:REST, or type=TYPE,MEMBER=REST.
func typed(s, member string) (kind, rest string, err error) {
	long, isLong := strings.CutPrefix(s, "type=")
	if !isLong {
		kind, rest, _ = strings.Cut(s, ":")
		return kind, rest, nil
	}
	kind, after, more := strings.Cut(long, ",")
	if !more {
		return kind, "", nil
	}
	rest, ok := strings.CutPrefix(after, member+"=")
	if !ok {
		return "", "", fmt.Errorf("%q: after the type it must go on with %s=", s, member)
	}
	return kind, strings.Trim(rest, `"`), nil
}

func parseStrategies(all []string) ([]*pb.PlacementStrategy, error) {
	return parseAll(all, parseStrategy)
}

func parseConstraints(all []string) ([]*pb.PlacementConstraint, error) {
	return parseAll(all, parseConstraint)
}

func parseAll[T any](all []string, parse func(string) (T, error)) ([]T, error) {
	var parsed []T
	for _, s := range all {
		p, err := parse(s)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, p)
	}
	return parsed, nil
}
