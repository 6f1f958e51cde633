package validate

import (
	"fmt"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// CreateCluster checks a CreateCluster. Its error is an *Error.
func CreateCluster(r *pb.CreateClusterRequest) error {
	var p problems
	p.honoured(r, createClusterRules)
	if r.GetClusterName() != "" {
		p.name("clusterName", r.GetClusterName())
	}
	p.settings(r.GetSettings())
	p.tags("tags", r.GetTags())
	return p.err()
}

// UpdateCluster checks an UpdateCluster. Its error is an *Error.
func UpdateCluster(r *pb.UpdateClusterRequest) error {
	var p problems
	p.honoured(r, updateClusterRules)
	p.settings(r.GetSettings())
	return p.err()
}

// UpdateClusterSettings checks an UpdateClusterSettings. Its error is an *Error.
func UpdateClusterSettings(r *pb.UpdateClusterSettingsRequest) error {
	var p problems
	p.honoured(r, updateClusterRules)
	if len(r.GetSettings()) == 0 {
		p.add("settings", "required: give at least one setting")
	}
	p.settings(r.GetSettings())
	return p.err()
}

func (p *problems) settings(settings []*pb.ClusterSetting) {
	for i, s := range settings {
		if s.GetName() == pb.ClusterSettingName_CLUSTER_SETTING_NAME_UNSPECIFIED || s.GetValue() == "" {
			p.add(fmt.Sprintf("settings[%d]", i), "name and value are required: give containerInsights and disabled")
		}
	}
}

// maxAttributes is how many attributes one call may name.
const maxAttributes = 10

// Attributes checks the attributes of PutAttributes or, where values is false,
// of DeleteAttributes. Its error is an *Error.
func Attributes(attributes []*pb.Attribute, values bool) error {
	var p problems
	if n := len(attributes); n < 1 || n > maxAttributes {
		p.add("attributes", "there are %d: give 1 to %d", n, maxAttributes)
	}
	for i, a := range attributes {
		at := fmt.Sprintf("attributes[%d]", i)
		if !attrPattern.MatchString(a.GetName()) {
			p.add(at+".name", "%s is not an attribute's name: use 1 to 128 letters, digits and _ . / -", quote(a.GetName()))
		}
		if values && !attrValue.MatchString(a.GetValue()) {
			p.add(at+".value", "%s is not usable: use at most 128 letters, digits, spaces inside and _ . / - @ : \\", quote(a.GetValue()))
		}
		if a.GetTargetId() == "" {
			p.add(at+".targetId", "required: name a container instance by its id or ARN")
		}
	}
	return p.err()
}
