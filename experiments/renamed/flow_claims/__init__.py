"""Old names of the programs in experiments.studies.flow_claims."""
