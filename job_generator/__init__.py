"""The job generator: an FLJob as its author writes it becomes the Plan that every process reads.

    from job_generator.compiler import compile_job
    from job_generator.source import load_job

    plan = compile_job(load_job([Path("job.yaml")]))

Nothing is imported here, so that a command's `--help` is quick.
"""
