-- Whether configuration waits for a build is asked with every current status.
create index batches_configuration on raw.batches (cut) where kind = 'configuration';
