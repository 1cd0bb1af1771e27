package brig

import (
	"encoding/json"
	"net/netip"
)

// PodIdentity is what the metadata service knows of a pod that runs, and the form of the file that brigd publishes for it.
type PodIdentity struct {
	UUID        string          `json:"uuid"`
	Manifest    json.RawMessage `json:"manifest,omitempty"`    // reified pod manifest; none: an image ID of it is not known yet
	Annotations json.RawMessage `json:"annotations,omitempty"` // the pod manifest's, a JSON array; none: []
	Apps        []AppIdentity   `json:"apps"`
	Places      []PodPlace      `json:"places"` // where its requests may come from
}

// AppIdentity is what the metadata service knows of one app of a pod.
type AppIdentity struct {
	Name        string          `json:"name"`                  // unique in the pod
	ImageID     string          `json:"imageID,omitempty"`     // sha512-…; "" while it is not known
	Image       json.RawMessage `json:"image,omitempty"`       // the exact image manifest; none: the image is gone
	Annotations json.RawMessage `json:"annotations,omitempty"` // the image manifest's, with those of the pod manifest's app over them; a JSON array; none: []
}

// PodPlace is one address of a pod, and the address of the host that it reaches the metadata service at from there.
type PodPlace struct {
	Source  netip.Addr `json:"source"`
	Gateway netip.Addr `json:"gateway"`
}
