package validate

import (
	"fmt"
	"strings"

	"github.com/plimsoll-project/plimsoll/controlplane/decide/query"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// The limits of placement, as ECS has them.
const (
	maxConstraints = 10
	maxStrategies  = 5
)

func (p *problems) constraints(constraints []*pb.PlacementConstraint) {
	const at = "placementConstraints"
	if len(constraints) > maxConstraints {
		p.add(at, "there are %d: at most %d are allowed", len(constraints), maxConstraints)
	}
	for i, c := range constraints {
		at := fmt.Sprintf("%s[%d]", at, i)
		switch c.GetType() {
		case pb.PlacementConstraintType_PLACEMENT_CONSTRAINT_TYPE_DISTINCT_INSTANCE:
			if c.GetExpression() != "" {
				p.add(at+".expression", "distinctInstance takes none: leave it out")
			}
		case pb.PlacementConstraintType_PLACEMENT_CONSTRAINT_TYPE_MEMBER_OF:
			p.expression(at+".expression", c.GetExpression())
		default:
			p.add(at+".type", "required: give distinctInstance or memberOf")
		}
	}
}

func (p *problems) expression(at, e string) {
	if strings.TrimSpace(e) == "" {
		p.add(at, "required: give an expression such as \"attribute:rack == a\"")
	} else if _, err := query.Parse(e); err != nil {
		p.add(at, "it is not in the cluster query language: %s", err)
	}
}

func (p *problems) strategies(strategies []*pb.PlacementStrategy) {
	const at = "placementStrategy"
	if len(strategies) > maxStrategies {
		p.add(at, "there are %d: at most %d are allowed", len(strategies), maxStrategies)
	}
	for i, s := range strategies {
		at, field := fmt.Sprintf("%s[%d]", at, i), s.GetField()
		attribute, isAttribute := strings.CutPrefix(field, "attribute:")
		switch s.GetType() {
		case pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_RANDOM:
			if field != "" {
				p.add(at+".field", "random takes none: leave it out")
			}
		case pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_SPREAD:
			if field != "instanceId" && field != "host" && !(isAttribute && attrPattern.MatchString(attribute)) {
				p.add(at+".field", "%s cannot be spread over: give instanceId, host or attribute:NAME", quote(field))
			}
		case pb.PlacementStrategyType_PLACEMENT_STRATEGY_TYPE_BINPACK:
			if !strings.EqualFold(field, "cpu") && !strings.EqualFold(field, "memory") {
				p.add(at+".field", "%s cannot be packed by: give cpu or memory", quote(field))
			}
		default:
			p.add(at+".type", "required: give spread, binpack or random")
		}
	}
}
