package validate

import (
	"fmt"
	"slices"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// maxDesired bounds a service's desiredCount.
const maxDesired = 50000

// CreateService checks a CreateService. Its error is an *Error.
func CreateService(r *pb.CreateServiceRequest) error {
	var p problems
	p.honoured(r, createServiceRules)
	p.name("serviceName", r.GetServiceName())
	if r.GetTaskDefinition() == "" {
		p.add("taskDefinition", "required: give a family, family:revision or ARN")
	}
	daemon := r.GetSchedulingStrategy() == pb.SchedulingStrategy_SCHEDULING_STRATEGY_DAEMON
	if !daemon && r.DesiredCount == nil {
		p.add("desiredCount", "required for schedulingStrategy REPLICA: give 0 or more")
	}
	p.desired(r.DesiredCount, daemon)
	p.deployment(r.GetDeploymentConfiguration(), daemon)
	p.servicePlacement(r.GetPlacementConstraints(), r.GetPlacementStrategy(), daemon)
	p.clientToken(r.GetClientToken())
	p.tags("tags", r.GetTags())
	return p.err()
}

// UpdateService checks an UpdateService of a service that is a daemon or not.
// Its error is an *Error.
func UpdateService(r *pb.UpdateServiceRequest, daemon bool) error {
	var p problems
	p.honoured(r, updateServiceRules)
	if r.GetService() == "" {
		p.add("service", "required: give a name or ARN")
	}
	for _, m := range r.GetEmptyMembers() {
		if !slices.Contains(clearable, m) {
			p.add("emptyMembers", "%s is not a list that can be cleared", quote(m))
		}
	}
	p.desired(r.DesiredCount, daemon)
	p.deployment(r.GetDeploymentConfiguration(), daemon)
	p.servicePlacement(r.GetPlacementConstraints(), r.GetPlacementStrategy(), daemon)
	return p.err()
}

// clearable are UpdateService's lists; those that are refused when they are not
// empty may still be cleared.
var clearable = []string{
	"placementConstraints", "placementStrategy", "loadBalancers", "serviceRegistries", "capacityProviderStrategy",
	"volumeConfigurations", "vpcLatticeConfigurations",
}

func (p *problems) desired(n *int32, daemon bool) {
	switch {
	case n == nil:
	case daemon && *n != 0:
		p.add("desiredCount", "schedulingStrategy DAEMON runs one task on each container instance: leave it out")
	case *n < 0 || *n > maxDesired:
		p.add("desiredCount", "%d is out of range: give 0 to %d", *n, maxDesired)
	}
}

func (p *problems) deployment(d *pb.DeploymentConfiguration, daemon bool) {
	const at = "deploymentConfiguration"
	if c := d.GetDeploymentCircuitBreaker(); c.GetRollback() && !c.GetEnable() {
		p.add(at+".deploymentCircuitBreaker.rollback", "it needs enable: set enable to true or rollback to false")
	}
	if d == nil {
		return
	}
	if d.MinimumHealthyPercent != nil && (d.GetMinimumHealthyPercent() < 0 || d.GetMinimumHealthyPercent() > 100) {
		p.add(at+".minimumHealthyPercent", "%d is out of range: give 0 to 100", d.GetMinimumHealthyPercent())
	}
	if d.MaximumPercent == nil {
		return
	}
	switch most := d.GetMaximumPercent(); {
	case daemon && most != 100:
		p.add(at+".maximumPercent", "%d cannot be used with schedulingStrategy DAEMON: give 100 or leave it out", most)
	case most < 100 || most > 200:
		p.add(at+".maximumPercent", "%d is out of range: give 100 to 200", most)
	}
}

// Percents checks that a rolling update can move under the percents that a
// service ends up with. Its error is an *Error.
func Percents(d *pb.DeploymentConfiguration) error {
	var p problems
	if d.GetMaximumPercent() <= 100 && d.GetMinimumHealthyPercent() >= 100 {
		p.add("deploymentConfiguration", "maximumPercent and minimumHealthyPercent cannot both be 100, as that blocks deployments: raise the one or lower the other")
	}
	return p.err()
}

func (p *problems) servicePlacement(constraints []*pb.PlacementConstraint, strategies []*pb.PlacementStrategy, daemon bool) {
	p.constraints(constraints)
	p.strategies(strategies)
	if !daemon {
		return
	}
	if len(strategies) > 0 {
		p.add("placementStrategy", "schedulingStrategy DAEMON takes none: leave it out")
	}
	for i, c := range constraints {
		if c.GetType() == pb.PlacementConstraintType_PLACEMENT_CONSTRAINT_TYPE_DISTINCT_INSTANCE {
			p.add(fmt.Sprintf("placementConstraints[%d].type", i), "schedulingStrategy DAEMON does not take distinctInstance: leave it out")
		}
	}
}

// ListServices checks a ListServices. Its error is an *Error.
func ListServices(r *pb.ListServicesRequest) error {
	var p problems
	p.honoured(r, listServicesRules)
	return p.err()
}
