package deploy

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// A setting that is new in App is not forgotten where an app gets the settings that could be read last.
func TestSetAsTakesAllSettings(t *testing.T) {
	// These fields say what an app is and has; all others are settings.
	others := []string{"Name", "Source", "Pods", "Left", "Err", "Off", "Operator", "Images", "Current", "Places", "Deploying", "Certificate", "CertificateErr"}
	last := App{
		Name: "mail", Upstream: UpstreamPublished, Options: Options{Rate: 7}, ClientCA: "PEM",
		Hold: time.Second, HealthCheck: 2 * time.Second, CutOld: 3 * time.Second, HalfClosed: 4 * time.Second,
	}
	app := App{Name: "new"}
	app.SetAs(last)
	if app.Name != "new" {
		t.Errorf("it is called %s", app.Name)
	}
	for i := range reflect.TypeFor[App]().NumField() {
		name := reflect.TypeFor[App]().Field(i).Name
		if slices.Contains(others, name) {
			continue
		}
		if got := reflect.ValueOf(app).Field(i); got.IsZero() || !got.Equal(reflect.ValueOf(last).Field(i)) {
			t.Errorf("%s is %v", name, got)
		}
	}
}
