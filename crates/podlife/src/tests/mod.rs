mod decide;
mod pod_status;
mod shutdown;
mod translate;
