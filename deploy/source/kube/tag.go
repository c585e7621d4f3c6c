package kube

import (
	"path"
	"strings"
)

// tagPrefix tells a pod's image from a container's, which has an id ("sha256:...").
const tagPrefix = "tag:"

// Tag is the image of the pods that Dokku deploys with an image tag. Dokku gives each deploy another one; the image's id is known to
// Docker on this host and not to the cluster, which has the image from a registry.
func Tag(tag string) string { return tagPrefix + tag }

// IsTag tells whether an image is that of pods.
func IsTag(image string) bool { return strings.HasPrefix(image, tagPrefix) }

// tagOf is the image of a pod by the name of that ("registry.example.com:5000/dokku/mail:3").
func tagOf(name string) string {
	name, _, _ = strings.Cut(name, "@")
	_, tag, found := strings.Cut(path.Base(name), ":")
	if !found {
		tag = "latest"
	}
	return Tag(tag)
}
