package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"

	"dokku-expose/deploy"
	"dokku-expose/deploy/source/kube"
	"dokku-expose/haproxy"
	"dokku-expose/hooks/host"
	"dokku-expose/hooks/settings"
	"dokku-expose/proxy/control"
)

// A mistake in the settings, or a full disk, stops hooks and commands, which say so. The daemon goes on taking servers out of
// service all the same, by what it could read last: their addresses may be another app's in a moment, and it is better to serve
// less than what was asked for than somebody else.

// reconciler is the host's, or one that goes by what could be read last. It is for taking servers out of service.
func (d *healer) reconciler(ctx context.Context) *deploy.Reconciler {
	r, err := d.host.Reconciler(false)
	d.read = d.host
	if err == nil {
		d.read = r.Host
	} else {
		d.unread = errors.Join(d.unread, err)
		if d.engine == nil {
			d.engine = d.anyEngine(ctx)
		}
		sources, err := d.host.Sources()
		d.unread = errors.Join(d.unread, err)
		r = &deploy.Reconciler{Sources: sources, Engine: d.engine}
	}
	d.engine, r.Host = r.Engine, d
	return r
}

// anyEngine is the engine that serves something, with the settings that hold where nothing is set.
func (d *healer) anyEngine(ctx context.Context) deploy.Engine {
	builtin := control.NewClient(control.ClientConfig{}, d.host.Daemon)
	if o, err := builtin.Observe(ctx); err == nil && len(o.Routes) > 0 {
		return builtin
	}
	// Without its binary HAProxy can't be reloaded, but told of servers.
	config, _ := d.host.HAProxyConfig()
	values := settings.Defaults()
	config.WorkerDeadline, config.TotalConnections = values.WorkerDeadline, values.TotalConnections
	if password, err := d.host.StatsPassword(); err == nil {
		config.StatsListen, config.StatsUser, config.StatsPassword = values.StatsListen, host.StatsUser, password
		config.DaemonSocket = d.host.PageSocket()
	}
	return haproxy.New(config)
}

// Apps implements [deploy.Host]: the apps as far as they can be read, with the settings that could be read last, or those that
// something is served for.
func (d *healer) Apps(ctx context.Context) ([]deploy.App, error) {
	apps, err := d.read.Apps(ctx)
	if err == nil {
		d.apps = apps
		return apps, nil
	}
	d.unread = errors.Join(d.unread, err)
	if apps, salvageErr := d.host.Salvaged().Apps(ctx); salvageErr == nil {
		d.restore(apps, err)
		return apps, nil
	}
	if d.apps != nil {
		return d.apps, nil
	}
	o, observeErr := d.engine.Observe(ctx)
	if observeErr != nil {
		return nil, observeErr
	}
	values := settings.Defaults()
	names := make(map[string]bool)
	for _, service := range o.Routes {
		if !names[service.App] {
			names[service.App] = true
			app := deploy.App{Name: service.App, Source: d.host.MainSource(), Err: err, Hold: values.Hold, HealthCheck: values.HealthCheck}
			if _, told := d.known[kube.Name]; told && app.Source != kube.Name {
				app.Left = kube.Name
			}
			apps = append(apps, app)
		}
	}
	return apps, nil
}

// restore gives apps that were read without the host's settings those that went for them last. What is served for an app of which these
// are not known stays as it is, as is that of one with broken settings of its own.
func (d *healer) restore(apps []deploy.App, reason error) {
	for i := range apps {
		a := &apps[i]
		_, broken := d.host.Settings.Load(a.Name)
		a.Err = errors.Join(a.Err, broken)
		last := slices.IndexFunc(d.apps, func(o deploy.App) bool { return o.Name == a.Name })
		if last < 0 {
			a.Err = errors.Join(a.Err, reason)
			continue
		}
		a.SetAs(d.apps[last])
	}
}

// remember keeps what a reconcile has read.
func (d *healer) remember(outcome deploy.Outcome) {
	d.apps = outcome.Apps
	if engine, err := d.host.Engine(); err == nil {
		d.engine = engine
	}
}

// know keeps what sources have told.
func (d *healer) know(sources map[string]deploy.Listing) {
	if d.known == nil && len(sources) > 0 {
		d.known = make(map[string]deploy.Listing)
	}
	maps.Copy(d.known, sources)
}

// confirm takes out of service what Docker does not vouch for, where more can't be done. The caller tells why.
func (d *healer) confirm(ctx context.Context, lock *deploy.Lock) error {
	d.unread = nil
	outcome, err := d.reconciler(ctx).Reduce(ctx, lock, deploy.Known{Fresh: true})
	d.host.Record(outcome)
	d.know(outcome.Sources)
	return err
}
