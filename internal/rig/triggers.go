package rig

// allTriggers are all that a host calls.
var allTriggers = []string{
	"app-restart", "check-deploy", "core-post-deploy", "core-post-extract", "docker-args-build", "docker-args-deploy",
	"docker-args-process-build", "docker-args-process-deploy", "nginx-pre-reload", "ports-configure", "post-app-clone",
	"post-app-clone-setup", "post-app-rename", "post-app-rename-setup", "post-build", "post-certs-remove", "post-certs-update", "post-config-update",
	"post-container-create", "post-create", "post-delete", "post-deploy", "post-extract", "post-release-builder", "post-stop",
	"pre-build", "pre-delete", "pre-deploy", "pre-receive-app", "pre-release-builder", "pre-start", "proxy-build-config",
	"proxy-clear-config", "proxy-disable", "proxy-enable", "receive-app", "scheduler-deploy", "scheduler-post-delete",
	"scheduler-post-deploy-process", "scheduler-register-retired", "scheduler-retire", "scheduler-stop",
}
